//! Sockets between machines and their host (vsock(7)).

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};

use super::checked;

/// Listens at `port`, whoever calls.
pub fn listen(port: u32) -> io::Result<File> {
    let socket = socket()?;
    // SAFETY: sockaddr_vm is plain data, for which all zeroes is valid.
    let mut address: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
    address.svm_family = libc::AF_VSOCK as libc::sa_family_t;
    address.svm_port = port;
    address.svm_cid = libc::VMADDR_CID_ANY;
    let len = size_of_val(&address) as libc::socklen_t;
    // SAFETY: an open socket, and an address that outlives the call.
    checked(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) }.into())?;
    // SAFETY: takes numbers.
    checked(unsafe { libc::listen(socket.as_raw_fd(), 1) }.into())?;
    Ok(socket)
}

/// The next caller.
pub fn accept(listener: &File) -> io::Result<File> {
    let (none, no_len) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: an open socket; whose address it is is not asked for.
    let caller = checked(unsafe { libc::accept(listener.as_raw_fd(), none, no_len) }.into())?;
    // SAFETY: it was just opened, for us alone.
    Ok(unsafe { File::from_raw_fd(caller as i32) })
}

fn socket() -> io::Result<File> {
    // SAFETY: takes numbers.
    let socket = unsafe { libc::socket(libc::AF_VSOCK, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    let socket = checked(socket.into())?;
    // SAFETY: it was just opened, for us alone.
    Ok(unsafe { File::from_raw_fd(socket as i32) })
}
