//! Many vectored transfers at once, by io_uring(7).
//!
//! A transfer owns its [`Segments`] from push to completion, so the memory that the kernel fills
//! stays mapped and untouched meanwhile; a ring that is dropped waits for what is in flight first.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use io_uring::{IoUring, opcode, squeue, types};

use vm_memory::{GuestMemoryBackend, GuestMemoryRegion, MemoryRegionAddress};

use super::Memory;
use super::segments::Segments;

/// What to do with the one registered file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    Read,
    Write,
    Flush,
}

/// The longest buffer that can be registered (io_uring_register(2)).
const LONGEST: usize = 1 << 30;

/// A ring with one file, and what `T` belongs to each transfer.
pub struct Uring<T> {
    ring: IoUring,
    /// Guest memory that is registered: address and length of each buffer, and what keeps it mapped.
    buffers: Vec<(usize, usize)>,
    _memory: Option<Memory>,
    /// By `user_data`.
    flying: Vec<Option<(Segments, T)>>,
    free: Vec<usize>,
}

/// A transfer that has ended: bytes moved, or the error.
pub struct Landed<T> {
    pub segments: Segments,
    pub tag: T,
    pub result: io::Result<usize>,
}

impl<T> Uring<T> {
    /// A ring for `depth` transfers at once on `file`, which must outlive it.
    pub fn new(depth: u16, file: BorrowedFd<'_>) -> io::Result<Uring<T>> {
        let ring = IoUring::builder()
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .build(depth.into())
            .or_else(|_| IoUring::new(depth.into()))?;
        ring.submitter().register_files(&[file.as_raw_fd()])?;
        Ok(Uring { ring, buffers: Vec::new(), _memory: None, flying: Vec::new(), free: Vec::new() })
    }

    /// Registers guest memory as buffers: the kernel pins it once, and not for each transfer. All of it is
    /// populated by that, and counts as locked memory (RLIMIT_MEMLOCK).
    pub fn register(&mut self, memory: &Memory) -> io::Result<()> {
        let mut buffers = Vec::new();
        for region in memory.iter() {
            let host = region.get_host_address(MemoryRegionAddress(0)).map_err(io::Error::other)? as usize;
            let end = host + region.len() as usize;
            buffers.extend((host..end).step_by(LONGEST).map(|at| (at, LONGEST.min(end - at))));
        }
        let pieces: Vec<_> = buffers
            .iter()
            .map(|&(base, len)| libc::iovec { iov_base: base as *mut libc::c_void, iov_len: len })
            .collect();
        // SAFETY: the pieces are guest memory, which is mapped for as long as the ring: it is held beside it.
        unsafe { self.ring.submitter().register_buffers(&pieces)? };
        (self.buffers, self._memory) = (buffers, Some(memory.clone()));
        Ok(())
    }

    /// Which buffer holds all of a piece.
    fn buffer(&self, piece: &libc::iovec) -> Option<u16> {
        let start = piece.iov_base as usize;
        let holds = |&(base, len): &(usize, usize)| {
            start.checked_sub(base).is_some_and(|at| at < len && piece.iov_len <= len - at)
        };
        self.buffers.iter().position(holds).map(|index| index as u16)
    }

    /// Readable when something has landed.
    pub fn fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    /// Transfers in flight.
    pub fn flying(&self) -> usize {
        self.flying.len() - self.free.len()
    }

    /// Queues a transfer at `offset`; nothing happens until [`Uring::submit`]. Gives it back where
    /// the queue is full.
    pub fn push(
        &mut self,
        what: Transfer,
        segments: Segments,
        offset: u64,
        tag: T,
    ) -> Result<(), (Segments, T)> {
        let file = types::Fixed(0);
        let pieces = segments.iovecs();
        let (base, count) = (pieces.as_ptr(), pieces.len() as u32);
        // A registered buffer is one piece.
        let fixed = match pieces {
            [piece] => self.buffer(piece).map(|buffer| (piece.iov_base.cast(), piece.iov_len as u32, buffer)),
            _ => None,
        };
        let entry: squeue::Entry = match (what, fixed) {
            (Transfer::Read, Some((at, len, buffer))) => {
                opcode::ReadFixed::new(file, at, len, buffer).offset(offset).build()
            }
            (Transfer::Write, Some((at, len, buffer))) => {
                opcode::WriteFixed::new(file, at, len, buffer).offset(offset).build()
            }
            (Transfer::Read, None) => opcode::Readv::new(file, base, count).offset(offset).build(),
            (Transfer::Write, None) => opcode::Writev::new(file, base, count).offset(offset).build(),
            (Transfer::Flush, _) => opcode::Fsync::new(file).flags(types::FsyncFlags::DATASYNC).build(),
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.flying.push(None);
            self.flying.len() - 1
        });
        // SAFETY: the pieces and the vector that lists them are on the heap, owned by `segments`, which
        // is kept unchanged in `flying` until this transfer has landed.
        let pushed = unsafe { self.ring.submission().push(&entry.user_data(slot as u64)) };
        match pushed {
            Ok(()) => {
                self.flying[slot] = Some((segments, tag));
                Ok(())
            }
            Err(_) => {
                self.free.push(slot);
                Err((segments, tag))
            }
        }
    }

    /// Hands what was queued to the kernel, and lets it finish what has ended meanwhile: one system
    /// call, or none if there is neither.
    pub fn submit(&mut self) -> io::Result<()> {
        let queue = self.ring.submission();
        if queue.is_empty() && !queue.taskrun() {
            return Ok(());
        }
        drop(queue);
        match self.ring.submit() {
            // Busy: it stays queued until something has landed.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EINTR | libc::EAGAIN)) => {
                Ok(())
            }
            other => other.map(drop),
        }
    }

    /// What has landed next, if anything; no system call.
    pub fn land(&mut self) -> Option<Landed<T>> {
        let entry = self.ring.completion().next()?;
        let slot = entry.user_data() as usize;
        let (segments, tag) = self.flying.get_mut(slot)?.take()?;
        self.free.push(slot);
        let result = match entry.result() {
            error if error < 0 => Err(io::Error::from_raw_os_error(-error)),
            count => Ok(count as usize),
        };
        Some(Landed { segments, tag, result })
    }

    /// Waits until something has landed.
    pub fn wait(&mut self) -> io::Result<()> {
        match self.ring.submit_and_wait(1) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            other => other.map(drop),
        }
    }
}

impl<T> Drop for Uring<T> {
    fn drop(&mut self) {
        while self.flying() > 0 {
            if self.land().is_none() && self.wait().is_err() {
                // The kernel may still write to guest memory: never let go of it.
                std::mem::forget(std::mem::take(&mut self.flying));
                return;
            }
        }
    }
}

/// Whether this host gives us a ring: a kernel may not have it, and a sandbox may refuse it.
pub fn available() -> bool {
    IoUring::new(1).is_ok()
}
