//! A virtio disk of this guest, past the page cache.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

use workloads::platform::{self, Unavailable};

use crate::sys::aio::Requests;

pub struct Disk {
    requests: Requests,
    capacity: u64,
}

impl Disk {
    /// Opens `/dev/vda` for index 0, `/dev/vdb` for 1, and so on.
    pub fn open(index: usize, size: usize, depth: usize) -> Result<Disk, Unavailable> {
        let letter = ('a'..='z').nth(index).ok_or(Unavailable("no-such-disk"))?;
        let path = format!("/dev/vd{letter}");
        let open = |write| File::options().read(true).write(write).custom_flags(libc::O_DIRECT).open(&path);
        let mut file = open(true).or_else(|_| open(false)).map_err(|_| Unavailable("no-such-disk"))?;
        let capacity = file.seek(SeekFrom::End(0)).map_err(|_| Unavailable("no-capacity"))?;
        let requests = Requests::new(file, size, depth).map_err(|_| Unavailable("no-asynchronous-io"))?;
        Ok(Disk { requests, capacity })
    }
}

impl platform::Disk for Disk {
    fn capacity(&self) -> u64 {
        self.capacity
    }

    fn submit(&mut self, tag: u32, offset: u64, write: bool) -> bool {
        self.requests.submit(tag, offset, write)
    }

    fn complete(&mut self) -> Option<(u32, bool)> {
        self.requests.complete()
    }
}
