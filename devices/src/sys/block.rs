//! What a block device says of itself, and what only block devices do (Linux include/uapi/linux/fs.h).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

const BLKROGET: u32 = 0x125e;
const BLKSSZGET: u32 = 0x1268;
const BLKDISCARD: u32 = 0x1277;
const BLKIOMIN: u32 = 0x1278;
const BLKIOOPT: u32 = 0x1279;
const BLKALIGNOFF: u32 = 0x127a;
const BLKPBSZGET: u32 = 0x127b;
const BLKGETSIZE64: u32 = 0x8008_1272;

/// All in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    pub size: u64,
    pub logical: u32,
    pub physical: u32,
    /// Where its first whole physical block begins: a partition may begin within one.
    pub first: u32,
    pub smallest: u32,
    /// 0: it doesn't say.
    pub best: u32,
    pub read_only: bool,
}

/// Asks a device. ENOTTY: it is none.
pub fn geometry(device: &File) -> io::Result<Geometry> {
    let number = |request| ask::<u32>(device.as_fd(), request);
    let logical = number(BLKSSZGET)?.max(512);
    let physical = number(BLKPBSZGET)?.max(logical);
    let first = ask::<i32>(device.as_fd(), BLKALIGNOFF)?;
    Ok(Geometry {
        size: ask(device.as_fd(), BLKGETSIZE64)?,
        logical,
        physical,
        // -1: it is aligned by nothing.
        first: u32::try_from(first).unwrap_or(0),
        smallest: number(BLKIOMIN)?.max(logical),
        best: number(BLKIOOPT)?,
        read_only: number(BLKROGET)? != 0,
    })
}

/// A plain number.
trait Answer: Default {}
impl Answer for u64 {}
impl Answer for u32 {}
impl Answer for i32 {}

fn ask<T: Answer>(device: BorrowedFd<'_>, request: u32) -> io::Result<T> {
    let mut answer = T::default();
    // SAFETY: each of the requests above writes one number as long as the type that it is asked with.
    match unsafe { libc::ioctl(device.as_raw_fd(), request as _, &raw mut answer) } {
        0 => Ok(answer),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Tells the device that nobody needs `offset..offset + len` any more. What is read there afterwards is
/// the device's affair. Where all that the kernel has for it is zeroes, `fallocate` refuses to punch a hole.
pub fn discard(device: BorrowedFd<'_>, offset: u64, len: u64) -> io::Result<()> {
    let range = [offset, len];
    // SAFETY: BLKDISCARD reads two numbers.
    match unsafe { libc::ioctl(device.as_raw_fd(), BLKDISCARD as _, &raw const range) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_device_answers_nothing() {
        let file = File::open("/proc/self/exe").unwrap();
        assert_eq!(geometry(&file).unwrap_err().raw_os_error(), Some(libc::ENOTTY));
        assert!(discard(file.as_fd(), 0, 512).is_err());
    }
}
