//! Requests whose ends the kernel looks for in the device's queue, for as long as somebody waits
//! (io_uring_setup(2), IORING_SETUP_IOPOLL). Where the disk's driver has a queue for them (Linux:
//! `virtio_blk.poll_queues=`), no interrupt tells of an end.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use io_uring::{IoUring, opcode, types};

use super::mapping::Mapping;

const PAGE: usize = 4096;

/// A file, opened with O_DIRECT, with requests of one size under way.
pub struct Polled {
    /// Closed first; pages that a request still writes to stay until it ends.
    ring: IoUring,
    buffers: Mapping,
    file: File,
    size: usize,
    depth: usize,
    under_way: usize,
}

impl Polled {
    /// Up to `depth` requests of `size` bytes.
    pub fn new(file: File, size: usize, depth: usize) -> io::Result<Polled> {
        let total = size.checked_mul(depth).ok_or(io::ErrorKind::OutOfMemory)?;
        let buffers = Mapping::new(total.next_multiple_of(PAGE), 0, PAGE, false)?;
        let ring = IoUring::builder().setup_iopoll().build(depth as u32)?;
        Ok(Polled { ring, buffers, file, size, depth, under_way: 0 })
    }

    /// Takes a request on buffer `tag`, to be started with others by the next wait; `false` where it
    /// can't be, as for a tag that is none.
    pub fn submit(&mut self, tag: u32, offset: u64, write: bool) -> bool {
        if tag as usize >= self.depth || self.under_way == self.depth {
            return false;
        }
        let buffer = &mut self.buffers.as_mut_slice()[tag as usize * self.size..][..self.size];
        let (fd, len) = (types::Fd(self.file.as_raw_fd()), buffer.len() as u32);
        let entry = match write {
            true => opcode::Write::new(fd, buffer.as_ptr(), len).offset(offset).build(),
            false => opcode::Read::new(fd, buffer.as_mut_ptr(), len).offset(offset).build(),
        };
        // SAFETY: the buffer lies in `buffers`, which lives as long as the ring, and nobody else looks at it;
        // two requests on one buffer only mix their bytes.
        let taken = unsafe { self.ring.submission().push(&entry.user_data(tag.into())) }.is_ok();
        self.under_way += usize::from(taken);
        taken
    }

    /// Waits for the end of one: its tag, and whether all of it was transferred.
    pub fn complete(&mut self) -> Option<(u32, bool)> {
        while self.under_way > 0 {
            if let Some(end) = self.ring.completion().next() {
                self.under_way -= 1;
                return Some((end.user_data() as u32, end.result() == self.size as i32));
            }
            match self.ring.submit_and_wait(1) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return None,
                _ => (),
            }
        }
        None
    }
}
