//! Who is at the other end of a local socket (unix(7), SO_PEERCRED).

use std::io;
use std::mem::size_of;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use super::checked;

/// A process, as it was when it connected, or began to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub pid: u32,
    uid: u32,
}

impl Peer {
    /// Root, or the user of this process.
    pub fn may_look(self) -> bool {
        // SAFETY: geteuid takes nothing and cannot fail.
        self.uid == 0 || self.uid == unsafe { libc::geteuid() }
    }
}

/// Of the other end.
pub fn credentials(stream: &UnixStream) -> io::Result<Peer> {
    let mut peer = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    let into = (&raw mut peer).cast();
    // SAFETY: `peer` and `len` are live, and `len` is the size of `peer`.
    let done =
        unsafe { libc::getsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, into, &mut len) };
    checked(done.into())?;
    Ok(Peer { pid: peer.pid.unsigned_abs(), uid: peer.uid })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_of_sockets_is_this_process() {
        let (here, _there) = UnixStream::pair().unwrap();
        let peer = credentials(&here).unwrap();
        assert_eq!(peer.pid, std::process::id());
        assert!(peer.may_look());
    }
}
