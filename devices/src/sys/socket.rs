//! Unix sockets: bytes with the file descriptors that ride along, and waiting for a peer.

use std::io;
#[cfg(test)]
use std::os::fd::IntoRawFd;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

/// Room for the descriptors of one piece. Where a peer sends more, all are closed and the piece is lost.
const MOST_FDS: usize = 32;
/// The error of such a piece.
pub const TOO_MANY_FDS: i32 = libc::ENOBUFS;

/// An event fd, to be sent.
pub fn event(event: &EventFd) -> BorrowedFd<'_> {
    // SAFETY: it is open for as long as the `EventFd`, which the result borrows.
    unsafe { BorrowedFd::borrow_raw(event.as_raw_fd()) }
}

/// An event fd that was received. Whatever else it may be, it is closed once.
#[cfg(test)]
pub fn event_fd(fd: OwnedFd) -> EventFd {
    // SAFETY: it is open, and nobody else's.
    unsafe { EventFd::from_raw_fd(fd.into_raw_fd()) }
}

/// What to wait for.
#[derive(Clone, Copy, Debug)]
#[repr(i16)]
pub enum Ready {
    Read = libc::POLLIN,
    Write = libc::POLLOUT,
}

/// Connects, or says at once that it can't be now: one whose queue of callers is full (EAGAIN) would have us
/// wait for as long as it likes.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    let path = path.as_os_str().as_bytes();
    // SAFETY: plain data, for which zero is valid.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    // One byte of it stays the end of the name.
    if path.len() >= address.sun_path.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "its path is too long for a socket"));
    }
    for (place, byte) in address.sun_path.iter_mut().zip(path) {
        *place = *byte as libc::c_char;
    }
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no memory is involved.
    let socket = unsafe { libc::socket(libc::AF_UNIX, kind, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was made just now, and nobody else knows of it.
    let stream = unsafe { UnixStream::from_raw_fd(socket) };
    let len = size_of::<libc::sockaddr_un>() as libc::socklen_t;
    // SAFETY: the kernel reads an address as long as it says.
    match unsafe { libc::connect(socket, (&raw const address).cast(), len) } {
        0 => Ok(stream),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sends as much as goes at once; descriptors go with the first byte. Never raises SIGPIPE.
pub fn send(stream: &UnixStream, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let fds: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    Ok(stream.send_with_fds(&[bytes], &fds)?)
}

/// Receives what is there, and the descriptors that came with it. 0: the peer has closed.
pub fn receive(stream: &UnixStream, bytes: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut raw = [-1; MOST_FDS];
    let mut room = [libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() }];
    // SAFETY: `room` is `bytes`, which takes any byte.
    let (count, passed) = unsafe { stream.recv_with_fds(&mut room, &mut raw)? };
    // SAFETY: they were made for this process by the call above, and nobody else knows of them.
    fds.extend(raw[..passed].iter().map(|&fd| unsafe { OwnedFd::from_raw_fd(fd) }));
    Ok(count)
}

/// Waits until `fd` is ready, or its peer gone; false if the time is up.
pub fn wait(fd: BorrowedFd<'_>, ready: Ready, time: Option<Duration>) -> io::Result<bool> {
    wait_any([fd], ready, time).map(|[ready]| ready)
}

/// Waits until one of `fds` is ready, or its peer gone, and says which are.
pub fn wait_any<const N: usize>(
    fds: [BorrowedFd<'_>; N],
    ready: Ready,
    time: Option<Duration>,
) -> io::Result<[bool; N]> {
    let mut polls = fds.map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events: ready as i16, revents: 0 });
    // A millisecond more, so that it never spins through the last one.
    let ms = time.map_or(-1, |time| i32::try_from(time.as_millis()).unwrap_or(i32::MAX).saturating_add(1));
    loop {
        // SAFETY: N of `pollfd`, alive for as long as the call.
        let count = unsafe { libc::poll(polls.as_mut_ptr(), N as libc::nfds_t, ms) };
        if count >= 0 {
            return Ok(polls.map(|poll| poll.revents != 0));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
        // The caller, who has a deadline, looks at the clock again.
        if time.is_some() {
            return Ok([true; N]);
        }
    }
}

/// Whoever waits for this socket, or will, waits no longer.
pub fn shut_down(socket: BorrowedFd<'_>) {
    // SAFETY: a number and a constant; no memory.
    unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RDWR) };
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::testing::machine::Scratch;

    #[test]
    fn one_that_answers_nobody_is_not_waited_for() {
        let path = Scratch::new("calls");
        let listener = UnixListener::bind(&*path).unwrap();
        // SAFETY: no memory is involved. One caller may wait, and no more.
        assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
        let _waits = connect(&path).unwrap();
        assert_eq!(connect(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
