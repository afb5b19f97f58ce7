//! Event fds that a peer has made, and may do anything to.

use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};

use vmm_sys_util::eventfd::EventFd;

/// An event fd that makes nobody wait, until its peer changes that (see [`super::bell`]); `None` for any
/// other kind of file.
pub fn of_peer(fd: OwnedFd) -> Option<EventFd> {
    let kind = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()?;
    if !kind.as_os_str().to_str()?.starts_with("anon_inode:[eventfd") {
        return None;
    }
    // SAFETY: changes a flag of a descriptor that is ours, and no memory.
    let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) };
    // SAFETY: as above.
    let set = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) };
    // SAFETY: the descriptor is an event fd, and given away here.
    (flags >= 0 && set >= 0).then(|| unsafe { EventFd::from_raw_fd(fd.into_raw_fd()) })
}

/// Takes away again what [`of_peer`] has set, as a peer may: who writes to it when it is full waits.
#[cfg(test)]
pub fn set_blocking(event: &EventFd) {
    // SAFETY: changes a flag of a live descriptor, and no memory.
    let flags = unsafe { libc::fcntl(event.as_raw_fd(), libc::F_GETFL) };
    // SAFETY: as above.
    unsafe { libc::fcntl(event.as_raw_fd(), libc::F_SETFL, flags & !libc::O_NONBLOCK) };
}

/// An event fd as what can be sent to a peer.
#[cfg(test)]
pub fn borrow(event: &EventFd) -> std::os::fd::BorrowedFd<'_> {
    // SAFETY: open for as long as `event` is borrowed.
    unsafe { std::os::fd::BorrowedFd::borrow_raw(event.as_raw_fd()) }
}

/// An event fd as what a peer may send.
#[cfg(any(test, feature = "fuzz"))]
pub fn own(event: EventFd) -> OwnedFd {
    // SAFETY: taken from its owner, who does not have it any more.
    unsafe { OwnedFd::from_raw_fd(event.into_raw_fd()) }
}
