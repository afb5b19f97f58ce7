//! Size and blocks of what is behind a disk, which the guest is told.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::request::SECTOR;
use crate::sys::block::{self, Geometry};

/// All in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub size: u64,
    /// A logical block: what every position and length is a multiple of.
    pub block: u32,
    /// A physical one: less than that is read, changed and written back.
    pub physical: u32,
    /// Where the first physical block begins.
    pub first: u32,
    /// The least that is well written at once, and what is best (0: as much as you like).
    pub smallest: u32,
    pub best: u32,
    /// What can be given back is in multiples of this; none: nothing can.
    pub discard: Option<u32>,
    /// Whether it is a block device.
    pub device: bool,
    pub read_only: bool,
}

impl Shape {
    /// That of a file: its blocks are the page cache's, and the least that a hole can be is the
    /// filesystem's affair, which zeroes the rest.
    pub fn of_file(size: u64) -> Shape {
        Shape {
            size,
            block: SECTOR as u32,
            physical: 4096,
            first: 0,
            smallest: 4096,
            best: 0,
            discard: Some(SECTOR as u32),
            device: false,
            read_only: false,
        }
    }

    pub fn of(file: &File) -> io::Result<Shape> {
        let meta = file.metadata()?;
        if !meta.file_type().is_block_device() {
            return Ok(Shape::of_file(meta.len()));
        }
        let Geometry { size, logical, physical, first, smallest, best, read_only } = block::geometry(file)?;
        let discard = discard(meta.rdev());
        Ok(Shape { size, block: logical, physical, first, smallest, best, discard, device: true, read_only })
    }

    /// The same with blocks that are no smaller.
    pub fn at_least(self, block: u32) -> Shape {
        let block = self.block.max(block);
        let (physical, smallest) = (self.physical.max(block), self.smallest.max(block));
        let discard = self.discard.map(|discard| discard.max(block));
        Shape { block, physical, smallest, discard, ..self }
    }
}

/// What sysfs says of a device by its number. Where there is no sysfs, the device is asked when it comes to it.
fn discard(number: u64) -> Option<u32> {
    let place = format!("/sys/dev/block/{}:{}", libc::major(number), libc::minor(number));
    // A partition has no queue of its own: that of its disk is one up.
    let queue = ["queue", "../queue"].map(|queue| Path::new(&place).join(queue));
    let Some(queue) = queue.iter().find(|queue| queue.exists()) else { return Some(SECTOR as u32) };
    let number = |name| fs::read_to_string(queue.join(name)).ok()?.trim().parse::<u64>().ok();
    if number("discard_max_bytes") == Some(0) {
        return None;
    }
    let granularity = number("discard_granularity").and_then(|bytes| u32::try_from(bytes).ok());
    Some(granularity.unwrap_or(0).max(SECTOR as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_blocks_make_the_rest_no_smaller() {
        let file = Shape::of_file(1 << 20);
        assert_eq!(file.at_least(512), file);
        let direct = Shape { physical: 512, smallest: 512, ..file }.at_least(4096);
        assert_eq!((direct.block, direct.physical, direct.smallest), (4096, 4096, 4096));
        assert_eq!((direct.discard, direct.size), (Some(4096), 1 << 20));
    }
}
