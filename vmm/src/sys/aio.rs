//! Linux native asynchronous I/O (io_submit(2)): requests on one file, several under way, each with
//! a buffer of its own. Every kernel has it, with the same cost per request: one call to start,
//! at most one to wait.

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
        Ok(Requests { context: Context(context), buffers, file, size, depth, under_way: 0 })
    }

    /// Starts a request on buffer `tag`; `false` where it can't be, as for a tag that is none.
    pub fn submit(&mut self, tag: u32, offset: u64, write: bool) -> bool {
        let (Ok(offset), true) = (i64::try_from(offset), (tag as usize) < self.depth) else { return false };
        if self.under_way == self.depth {
            return false;
        }
        let buffer = &mut self.buffers.as_mut_slice()[tag as usize * self.size..][..self.size];
        let control = Control {
            data: tag.into(),
            opcode: if write { WRITE } else { READ },
            file: self.file.as_raw_fd() as u32,
            buffer: buffer.as_mut_ptr() as u64,
            bytes: self.size as u64,
            offset,
            ..Control::default()
        };
        let list = [&raw const control];
        // SAFETY: the kernel copies the control block. The buffer lies in `buffers`, which outlives
        // the context, and nobody else looks at it; two requests on one buffer only mix their bytes.
        let started = unsafe { libc::syscall(libc::SYS_io_submit, self.context.0, 1, list.as_ptr()) };
        self.under_way += usize::from(started == 1);
        started == 1
    }

    /// Waits for the end of one: its tag, and whether all of it was transferred.
    pub fn complete(&mut self) -> Option<(u32, bool)> {
        if self.under_way == 0 {
            return None;
        }
        let mut event = Event::default();
        loop {
            // SAFETY: room for one event, and no timeout.
            let ended = unsafe {
                libc::syscall(
                    libc::SYS_io_getevents,
                    self.context.0,
                    1,
                    1,
                    &mut event as *mut Event,
                    std::ptr::null::<libc::timespec>(),
                )
            };
            match checked(ended) {
                Ok(1) => break,
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return None,
                _ => {}
            }
        }
        self.under_way -= 1;
        Some((event.data as u32, event.result == self.size as i64))
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
