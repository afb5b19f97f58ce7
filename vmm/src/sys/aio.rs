//! Linux native asynchronous I/O (io_submit(2)): requests on one file, several under way, each with
//! a buffer of its own. Every kernel has it. Requests start and end in batches: one call starts what
//! was submitted since the last wait, one call collects all that has ended.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use super::{checked, mapping::Mapping};

/// `struct iocb` of uapi/linux/aio_abi.h, little-endian.
#[repr(C)]
#[derive(Default)]
struct Control {
    data: u64,
    key: u32,
    rw_flags: i32,
    opcode: u16,
    priority: i16,
    file: u32,
    buffer: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    event_file: u32,
}

/// `struct io_event`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Event {
    data: u64,
    control: u64,
    result: i64,
    result2: i64,
}

const PAGE: usize = 4096;
/// IOCB_CMD_PREAD and IOCB_CMD_PWRITE.
const READ: u16 = 0;
const WRITE: u16 = 1;

/// A file with requests of one size under way.
pub struct Requests {
    /// Destroyed first: that waits for whatever still writes to a buffer.
    context: Context,
    buffers: Mapping,
    file: File,
    size: usize,
    depth: usize,
    /// Submitted, and not started yet.
    waiting: Vec<Control>,
    /// Collected, and not handed out yet.
    ended: Vec<Event>,
    /// Started, and not collected yet.
    under_way: usize,
}

struct Context(libc::c_ulong);

impl Requests {
    /// Up to `depth` requests of `size` bytes.
    pub fn new(file: File, size: usize, depth: usize) -> io::Result<Requests> {
        let total = size.checked_mul(depth).ok_or(io::ErrorKind::OutOfMemory)?;
        let buffers = Mapping::new(total.next_multiple_of(PAGE), 0, PAGE, false)?;
        let mut context = 0;
        // SAFETY: the context's number is written to a live integer.
        checked(unsafe { libc::syscall(libc::SYS_io_setup, depth, &mut context as *mut libc::c_ulong) })?;
        let (waiting, ended) = (Vec::with_capacity(depth), Vec::with_capacity(depth));
        Ok(Requests { context: Context(context), buffers, file, size, depth, waiting, ended, under_way: 0 })
    }

    /// Takes a request on buffer `tag`, to be started with others by the next wait; `false` where it
    /// can't be, as for a tag that is none.
    pub fn submit(&mut self, tag: u32, offset: u64, write: bool) -> bool {
        let (Ok(offset), true) = (i64::try_from(offset), (tag as usize) < self.depth) else { return false };
        if self.under_way + self.waiting.len() + self.ended.len() == self.depth {
            return false;
        }
        let buffer = &mut self.buffers.as_mut_slice()[tag as usize * self.size..][..self.size];
        self.waiting.push(Control {
            data: tag.into(),
            opcode: if write { WRITE } else { READ },
            file: self.file.as_raw_fd() as u32,
            buffer: buffer.as_mut_ptr() as u64,
            bytes: self.size as u64,
            offset,
            ..Control::default()
        });
        true
    }

    /// Waits for the end of one: its tag, and whether all of it was transferred.
    pub fn complete(&mut self) -> Option<(u32, bool)> {
        if self.ended.is_empty() {
            self.start();
            self.collect();
        }
        let event = self.ended.pop()?;
        Some((event.data as u32, event.result == self.size as i64))
    }

    /// Starts what waits. What the kernel refuses has ended, and not well.
    fn start(&mut self) {
        while !self.waiting.is_empty() {
            let list: Vec<_> = self.waiting.iter().map(|control| &raw const *control).collect();
            // SAFETY: the kernel copies the control blocks. Each buffer lies in `buffers`, which outlives
            // the context, and nobody else looks at it; two requests on one buffer only mix their bytes.
            let started =
                unsafe { libc::syscall(libc::SYS_io_submit, self.context.0, list.len(), list.as_ptr()) };
            let started = usize::try_from(started).unwrap_or(0).min(self.waiting.len());
            self.under_way += started;
            self.waiting.drain(..started);
            if started == 0 {
                let refused = self.waiting.remove(0);
                self.ended.push(Event { data: refused.data, ..Event::default() });
            }
        }
    }

    /// Collects what has ended, at least one if any is under way.
    fn collect(&mut self) {
        while self.under_way > 0 && self.ended.is_empty() {
            self.ended.resize(self.depth, Event::default());
            // SAFETY: room for so many events, and no timeout.
            let count = unsafe {
                libc::syscall(
                    libc::SYS_io_getevents,
                    self.context.0,
                    1,
                    self.ended.len(),
                    self.ended.as_mut_ptr(),
                    std::ptr::null::<libc::timespec>(),
                )
            };
            let count = checked(count);
            let interrupted = count.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::Interrupted);
            let count = count.map_or(0, |count| count as usize);
            self.ended.truncate(count);
            // Handed out from the end: the first to end comes first.
            self.ended.reverse();
            self.under_way -= count;
            if count == 0 && !interrupted {
                return;
            }
        }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: the context is ours; the kernel waits for the requests under way.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmm_sys_util::tempfile::TempFile;

    #[test]
    fn requests_come_back_with_their_tags() {
        let file = TempFile::new().unwrap().into_file();
        file.set_len(8192).unwrap();
        let mut requests = Requests::new(file, 4096, 2).unwrap();
        assert_eq!(requests.complete(), None);
        assert!(requests.submit(0, 0, true) && requests.submit(1, 4096, false));
        assert!(!requests.submit(0, 0, false), "no more than the depth");
        let mut ended = [requests.complete().unwrap(), requests.complete().unwrap()];
        ended.sort_unstable();
        assert_eq!(ended, [(0, true), (1, true)]);
        // Beyond the end there is nothing to read; there is no third buffer.
        assert!(requests.submit(1, 8192, false) && !requests.submit(2, 0, false));
        assert_eq!(requests.complete(), Some((1, false)));
        assert!(requests.submit(0, 0, true), "dropped while under way");
    }
}
