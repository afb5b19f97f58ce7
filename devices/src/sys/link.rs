//! Changes of the host's network interfaces (netlink(7), rtnetlink(7)): that there was one, not which.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};

/// RTMGRP_LINK (uapi/linux/rtnetlink.h).
const LINKS: u32 = 1;

/// Readable when any interface has changed.
pub struct Changes(File);

impl Changes {
    /// From now on.
    pub fn open() -> io::Result<Changes> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: takes numbers.
        let socket = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) };
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it was just opened, for us alone.
        let changes = Changes(unsafe { File::from_raw_fd(socket) });
        // SAFETY: plain data, for which all zeroes is valid.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        address.nl_groups = LINKS;
        let len = size_of_val(&address) as libc::socklen_t;
        // SAFETY: an open socket, and an address that outlives the call.
        match unsafe { libc::bind(socket, (&raw const address).cast(), len) } {
            0 => Ok(changes),
            _ => Err(io::Error::last_os_error()),
        }
    }

    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Takes all that is told; what it says in detail is looked up elsewhere.
    pub fn take(&self) {
        let mut message = [0; 4096];
        loop {
            match (&self.0).read(&mut message) {
                Ok(1..) => {}
                // There was more than is kept; what is left can be read.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                _ => return,
            }
        }
    }
}
