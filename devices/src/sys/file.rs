//! Vectored input and output between a file and guest memory, in place.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use super::segments::Segments;

/// The most pieces that one call takes (IOV_MAX).
const MOST: usize = 1024;

fn result(code: isize) -> io::Result<usize> {
    usize::try_from(code).map_err(|_| io::Error::last_os_error())
}

/// Fills the segments from `offset` of the file, until they are full or the file ends. They are used
/// up as far as they were filled. Returns the bytes read.
pub fn read_at(fd: BorrowedFd<'_>, segments: &mut Segments, offset: u64) -> io::Result<usize> {
    transfer(segments, offset, |pieces, offset| {
        // SAFETY: each piece is writable memory of the guest, mapped while `segments` lives.
        result(unsafe { libc::preadv(fd.as_raw_fd(), pieces.as_ptr(), pieces.len() as i32, offset) })
    })
}

/// Writes the segments to `offset` of the file, all of them or up to an error. They are used up as
/// far as they were written.
pub fn write_at(fd: BorrowedFd<'_>, segments: &mut Segments, offset: u64) -> io::Result<usize> {
    transfer(segments, offset, |pieces, offset| {
        // SAFETY: each piece is readable memory of the guest, mapped while `segments` lives.
        result(unsafe { libc::pwritev(fd.as_raw_fd(), pieces.as_ptr(), pieces.len() as i32, offset) })
    })
}

fn transfer(
    segments: &mut Segments,
    offset: u64,
    call: impl Fn(&[libc::iovec], libc::off_t) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut done = 0;
    while !segments.is_empty() {
        let at = offset.checked_add(done as u64).and_then(|at| libc::off_t::try_from(at).ok());
        let at = at.ok_or(io::Error::from_raw_os_error(libc::EINVAL))?;
        let pieces = segments.iovecs();
        match call(&pieces[..pieces.len().min(MOST)], at) {
            Ok(0) => break,
            Ok(count) => {
                segments.skip(count);
                done += count;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// One `readv`: a datagram, or what there is. The segments stay as they are.
pub fn read_some(fd: BorrowedFd<'_>, segments: &Segments) -> io::Result<usize> {
    let pieces = segments.iovecs();
    let count = pieces.len().min(MOST) as i32;
    // SAFETY: as in `read_at`.
    result(unsafe { libc::readv(fd.as_raw_fd(), pieces.as_ptr(), count) })
}

/// One `writev`. The segments stay as they are.
pub fn write_some(fd: BorrowedFd<'_>, segments: &Segments) -> io::Result<usize> {
    let pieces = segments.iovecs();
    let count = pieces.len().min(MOST) as i32;
    // SAFETY: as in `write_at`.
    result(unsafe { libc::writev(fd.as_raw_fd(), pieces.as_ptr(), count) })
}

/// True if a read would not block.
pub fn readable(fd: &impl AsRawFd) -> bool {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid pollfd.
    unsafe { libc::poll(&mut poll, 1, 0) > 0 }
}

/// Gives `offset..offset + len` of the file back (`punch`), or zeroes it and keeps it allocated.
pub fn deallocate(fd: BorrowedFd<'_>, punch: bool, offset: u64, len: u64) -> io::Result<()> {
    let mode = if punch { libc::FALLOC_FL_PUNCH_HOLE } else { libc::FALLOC_FL_ZERO_RANGE };
    let (Ok(offset), Ok(len)) = (libc::off_t::try_from(offset), libc::off_t::try_from(len)) else {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    };
    // SAFETY: no memory is involved.
    result(unsafe { libc::fallocate(fd.as_raw_fd(), mode | libc::FALLOC_FL_KEEP_SIZE, offset, len) } as isize)
        .map(drop)
}

/// Locks the whole file for this open description, at once or not at all: shared for readers,
/// exclusive for a writer (fcntl(2), F_OFD_SETLK).
pub fn lock(fd: &impl AsFd, exclusive: bool) -> io::Result<()> {
    set_lock(fd, if exclusive { libc::F_WRLCK } else { libc::F_RDLCK })
}

/// Lets go of what [`lock`] took.
pub fn unlock(fd: &impl AsFd) -> io::Result<()> {
    set_lock(fd, libc::F_UNLCK)
}

fn set_lock(fd: &impl AsFd, kind: i32) -> io::Result<()> {
    // SAFETY: plain data, for which zero is valid.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as i16;
    lock.l_whence = libc::SEEK_SET as i16;
    // SAFETY: F_OFD_SETLK reads one flock.
    result(unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_OFD_SETLK, &lock) } as isize).map(drop)
}

/// What O_DIRECT needs addresses and lengths in memory, and positions in the file, to be multiples of.
#[derive(Clone, Copy, Debug)]
pub struct DirectAlignment {
    pub memory: u32,
    pub offset: u32,
}

/// As the host tells it (statx(2), STATX_DIOALIGN, since 6.1); where it does not, both are a logical `block`,
/// which every kernel is content with.
pub fn direct_alignment(fd: &impl AsFd, block: u32) -> DirectAlignment {
    const STATX_DIOALIGN: u32 = 0x2000;
    // SAFETY: plain data, for which zero is valid.
    let mut answer: libc::statx = unsafe { std::mem::zeroed() };
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: an empty path names the fd itself; statx writes one struct.
    let code = unsafe {
        libc::syscall(libc::SYS_statx, fd, c"".as_ptr(), libc::AT_EMPTY_PATH, STATX_DIOALIGN, &mut answer)
    };
    if code == 0 && answer.stx_mask & STATX_DIOALIGN != 0 && answer.stx_dio_mem_align != 0 {
        return DirectAlignment { memory: answer.stx_dio_mem_align, offset: answer.stx_dio_offset_align };
    }
    DirectAlignment { memory: block, offset: block }
}
