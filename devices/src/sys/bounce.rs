//! An aligned buffer of our own, for O_DIRECT where the guest's is not aligned.

use std::alloc::{self, Layout};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::slice;

/// Zeroed bytes at an aligned address.
pub struct Bounce {
    base: NonNull<u8>,
    layout: Layout,
    len: usize,
}

impl Bounce {
    /// `len` bytes at a multiple of `align`, a power of two.
    pub fn new(len: usize, align: u32) -> io::Result<Bounce> {
        let align = (align as usize).next_power_of_two();
        let layout = Layout::from_size_align(len.max(1), align).map_err(io::Error::other)?;
        // SAFETY: the layout's size is not zero.
        let base = unsafe { alloc::alloc_zeroed(layout) };
        let base = NonNull::new(base).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Bounce { base, layout, len })
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `len` initialized bytes, ours.
        unsafe { slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and borrowed alone.
        unsafe { slice::from_raw_parts_mut(self.base.as_ptr(), self.len) }
    }

    /// Keeps the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Fills it from `offset` of the file, until it is full or the file ends.
    pub fn read_at(&mut self, fd: BorrowedFd<'_>, offset: u64) -> io::Result<usize> {
        let fd = fd.as_raw_fd();
        whole(self.bytes_mut().len(), |done| {
            let rest = &mut self.bytes_mut()[done..];
            // SAFETY: `rest` is ours for as long as the call.
            unsafe {
                libc::pread(fd, rest.as_mut_ptr().cast(), rest.len(), (offset + done as u64) as libc::off_t)
            }
        })
    }

    /// Writes it to `offset` of the file.
    pub fn write_at(&self, fd: BorrowedFd<'_>, offset: u64) -> io::Result<usize> {
        let fd = fd.as_raw_fd();
        whole(self.len, |done| {
            let rest = &self.bytes()[done..];
            // SAFETY: `rest` is ours for as long as the call.
            unsafe {
                libc::pwrite(fd, rest.as_ptr().cast(), rest.len(), (offset + done as u64) as libc::off_t)
            }
        })
    }
}

fn whole(len: usize, mut call: impl FnMut(usize) -> isize) -> io::Result<usize> {
    let mut done = 0;
    while done < len {
        match call(done) {
            0 => break,
            count if count > 0 => done += count as usize,
            _ => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
    Ok(done)
}

impl Drop for Bounce {
    fn drop(&mut self) {
        // SAFETY: allocated by `new` with this layout.
        unsafe { alloc::dealloc(self.base.as_ptr(), self.layout) }
    }
}
