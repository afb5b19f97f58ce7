//! A virtio disk of this guest, or a file of this host, past the page cache: by one call for each request
//! where there is one at a time, by a call for a batch where there are more, or polled.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use workloads::platform::{self, Unavailable};

use crate::sys::aio::Requests;
use crate::sys::mapping::Mapping;
use crate::sys::polled::Polled;

pub struct Disk {
    road: Road,
    capacity: u64,
}

enum Road {
    Alone(Alone),
    Batches(Requests),
    Polled(Box<Polled>),
}

impl Disk {
    /// Opens `/dev/vda` for index 0, `/dev/vdb` for 1, and so on.
    pub fn of_guest(index: usize, size: usize, depth: usize, poll: bool) -> Result<Disk, Unavailable> {
        let letter = ('a'..='z').nth(index).ok_or(Unavailable("no-such-disk"))?;
        Disk::open(format!("/dev/vd{letter}").as_ref(), size, depth, poll)
    }

    pub fn open(path: &Path, size: usize, depth: usize, poll: bool) -> Result<Disk, Unavailable> {
        let open = |write| File::options().read(true).write(write).custom_flags(libc::O_DIRECT).open(path);
        let mut file = open(true).or_else(|_| open(false)).map_err(|_| Unavailable("no-such-disk"))?;
        let capacity = file.seek(SeekFrom::End(0)).map_err(|_| Unavailable("no-capacity"))?;
        let road = match (poll, depth) {
            (true, _) => Polled::new(file, size, depth).map(|polled| Road::Polled(Box::new(polled))),
            (false, 1) => Alone::new(file, size).map(Road::Alone),
            (false, _) => Requests::new(file, size, depth).map(Road::Batches),
        };
        let none = if poll { "no-polled-io" } else { "no-asynchronous-io" };
        Ok(Disk { road: road.map_err(|_| Unavailable(none))?, capacity })
    }
}

impl platform::Disk for Disk {
    fn capacity(&self) -> u64 {
        self.capacity
    }

    fn submit(&mut self, tag: u32, offset: u64, write: bool) -> bool {
        match &mut self.road {
            Road::Alone(alone) => alone.submit(tag, offset, write),
            Road::Batches(requests) => requests.submit(tag, offset, write),
            Road::Polled(polled) => polled.submit(tag, offset, write),
        }
    }

    fn complete(&mut self) -> Option<(u32, bool)> {
        match &mut self.road {
            Road::Alone(alone) => alone.complete(),
            Road::Batches(requests) => requests.complete(),
            Road::Polled(polled) => polled.complete(),
        }
    }
}

/// One request at a time, which one call does.
struct Alone {
    file: File,
    buffer: Mapping,
    size: usize,
    /// Tag, offset, and whether it writes.
    next: Option<(u32, u64, bool)>,
}

impl Alone {
    fn new(file: File, size: usize) -> io::Result<Alone> {
        /// What O_DIRECT wants of an address at most.
        const ALIGNMENT: usize = 4096;
        let buffer = Mapping::new(size.next_multiple_of(ALIGNMENT), 0, ALIGNMENT, false)?;
        Ok(Alone { file, buffer, size, next: None })
    }

    fn submit(&mut self, tag: u32, offset: u64, write: bool) -> bool {
        let free = self.next.is_none();
        self.next.get_or_insert((tag, offset, write));
        free
    }

    fn complete(&mut self) -> Option<(u32, bool)> {
        let (tag, offset, write) = self.next.take()?;
        let bytes = &mut self.buffer.as_mut_slice()[..self.size];
        let done = match write {
            true => self.file.write_at(bytes, offset),
            false => self.file.read_at(bytes, offset),
        };
        Some((tag, done.is_ok_and(|done| done == self.size)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmm_sys_util::tempfile::TempFile;

    #[test]
    fn one_at_a_time() {
        let file = TempFile::new().unwrap().into_file();
        file.set_len(8192).unwrap();
        let mut alone = Alone::new(file, 4096).unwrap();
        assert_eq!(alone.complete(), None);
        assert!(alone.submit(7, 4096, true));
        assert!(!alone.submit(8, 0, false), "one at a time");
        assert_eq!(alone.complete(), Some((7, true)));
        assert!(alone.submit(8, 8192, false));
        assert_eq!(alone.complete(), Some((8, false)), "nothing is there to read");
    }
}
