//! Memory at an address of a wanted shape, between two guard pages: this process's alone, or in a file
//! without a name that other processes may map, too.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr;

use vm_memory::mmap::{MmapRegionBuilder, MmapRegionError};
use vm_memory::{FileOffset, MmapRegion};

use super::checked;

const PAGE: usize = 4096;
const ACCESS: libc::c_int = libc::PROT_READ | libc::PROT_WRITE;

/// Memory that a guard page on either side keeps apart from everything else.
/// Given back when dropped, unless it has become a [`MmapRegion`].
pub struct Mapping {
    addr: *mut libc::c_void,
    len: usize,
    flags: libc::c_int,
    /// Where others find it.
    file: Option<File>,
}

impl Mapping {
    /// `len` private, anonymous bytes, whose address is congruent to `like` modulo `align` (a power of two), so that pages
    /// of up to that size can back both at once. `pool`: from the pool of huge pages of `align` bytes,
    /// where `len` and `like` are multiples of it.
    ///
    /// Memory is accounted for here (no MAP_NORESERVE): what a pool doesn't have is an error now and
    /// not a SIGBUS later.
    pub fn new(len: usize, like: u64, align: usize, pool: bool) -> io::Result<Mapping> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let flags =
            if pool { flags | libc::MAP_HUGETLB | log2(align) << libc::MAP_HUGE_SHIFT } else { flags };
        Mapping::map(len, like, align, flags, None)
    }

    /// The same in a file (memfd_create(2)), for other processes to map, too.
    pub fn shared(len: usize, like: u64, align: usize, pool: bool) -> io::Result<Mapping> {
        let file = memory_file(len, pool.then_some(align))?;
        Mapping::map(len, like, align, libc::MAP_SHARED, Some(file))
    }

    fn map(
        len: usize,
        like: u64,
        align: usize,
        flags: libc::c_int,
        file: Option<File>,
    ) -> io::Result<Mapping> {
        let wanted = |n: usize| n.checked_add(align)?.checked_add(2 * PAGE);
        let room = wanted(len).ok_or(io::ErrorKind::OutOfMemory)?;
        let quiet = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let start = unsafe { libc::mmap(ptr::null_mut(), room, libc::PROT_NONE, quiet, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // The first address behind one guard page that has the shape.
        let first = start as usize + PAGE;
        let skip = (like as usize).wrapping_sub(first) & (align - 1);
        let before = PAGE + skip;
        let fd = file.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        // SAFETY: before + len + PAGE <= room, so the new mapping replaces a part of the one just made.
        let (start, addr) = unsafe {
            let addr = start.cast::<u8>().add(before).cast();
            let mapped = libc::mmap(addr, len, ACCESS, flags | libc::MAP_FIXED, fd, 0);
            if mapped == libc::MAP_FAILED {
                let error = io::Error::last_os_error();
                libc::munmap(start, room);
                return Err(error);
            }
            (start, addr)
        };
        // SAFETY: both ends lie in the mapping of `room` bytes, outside the memory and its guard pages.
        unsafe {
            libc::munmap(start, skip);
            let end = addr.cast::<u8>().add(len + PAGE).cast();
            libc::munmap(end, room - before - len - PAGE);
        }
        Ok(Mapping { addr, len, flags, file })
    }

    pub fn addr(&self) -> usize {
        self.addr as usize
    }

    /// madvise(2) on all of it; advice that touches no content.
    pub fn advise(&self, advice: Advice) -> io::Result<()> {
        // SAFETY: the memory is ours, and none of these takes a page away or changes what it holds.
        checked(unsafe { libc::madvise(self.addr, self.len, advice as libc::c_int) }.into()).map(drop)
    }

    /// Has the kernel provide every page, zeroed. EINVAL: a kernel before 5.14.
    pub fn populate(&self) -> io::Result<()> {
        // SAFETY: the memory is ours; populating changes nothing that it holds.
        checked(unsafe { libc::madvise(self.addr, self.len, libc::MADV_POPULATE_WRITE) }.into()).map(drop)
    }

    /// The memory, for this process's own use.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: the memory is mapped for reading and writing, zeroed, and reached through `self` alone.
        unsafe { std::slice::from_raw_parts_mut(self.addr.cast(), self.len) }
    }

    /// Guest memory. It stays mapped until the process ends: copies of the region may live as long.
    pub fn into_region(mut self) -> Result<MmapRegion, MmapRegionError> {
        let region = MmapRegionBuilder::new(self.len).with_mmap_prot(ACCESS).with_mmap_flags(self.flags);
        let region = match self.file.take() {
            Some(file) => region.with_file_offset(FileOffset::new(file, 0)),
            None => region,
        };
        // SAFETY: the memory is mapped with this access and these flags, and never unmapped from here on.
        let region = unsafe { region.with_raw_mmap_pointer(self.addr.cast()) }.build();
        std::mem::forget(self);
        region
    }
}

/// `len` bytes of memory as a file without a name; `pool`: in huge pages of that size. Whoever gets it can
/// write to it, but not take a byte of it away: that would be a SIGBUS for the guest and for us.
fn memory_file(len: usize, pool: Option<usize>) -> io::Result<File> {
    let huge = pool.map_or(0, |size| libc::MFD_HUGETLB | (log2(size) as u32) << libc::MFD_HUGE_SHIFT);
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING | huge;
    // SAFETY: a name that ends in zero; no other memory is involved.
    let fd = checked(unsafe { libc::memfd_create(c"guest".as_ptr(), flags) }.into())?;
    // SAFETY: it was made for us by the call above.
    let file = unsafe { File::from_raw_fd(fd as i32) };
    file.set_len(len as u64)?;
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: no memory is involved.
    checked(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) }.into())?;
    Ok(file)
}

// SAFETY: the memory belongs to the mapping, whichever thread has it, and sharing it gives no access
// to its content.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: memory and guard pages are ours, and nobody has been given their address.
        unsafe { libc::munmap(self.addr.wrapping_byte_sub(PAGE), self.len + 2 * PAGE) };
    }
}

/// What the kernel is told of memory (madvise(2)).
#[derive(Clone, Copy, Debug)]
#[repr(i32)]
pub enum Advice {
    HugePages = libc::MADV_HUGEPAGE,
    NoHugePages = libc::MADV_NOHUGEPAGE,
    NotInCoreDumps = libc::MADV_DONTDUMP,
    NotInChildren = libc::MADV_DONTFORK,
}

fn log2(size: usize) -> libc::c_int {
    size.trailing_zeros() as libc::c_int
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_congruent_and_guarded() {
        const HUGE: usize = 2 << 20;
        for like in [0, 0x1000, 0x1_0000_0000, 0x1_0020_3000] {
            let mapping = Mapping::new(3 * PAGE, like, HUGE, false).unwrap();
            assert_eq!(mapping.addr() % HUGE, like as usize % HUGE);
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
            let (start, end) = (mapping.addr(), mapping.addr() + 3 * PAGE);
            for guard in
                [format!("{:x}-{start:x} ---p", start - PAGE), format!("{end:x}-{:x} ---p", end + PAGE)]
            {
                assert!(maps.contains(&guard), "no {guard} in\n{maps}");
            }
        }
    }

    /// The signal that ends a process which stores a byte there.
    fn storing_ends_with(address: usize) -> Option<libc::c_int> {
        // SAFETY: the child stores one byte, which no one else sees, and exits; it calls nothing that another
        // thread of its parent may have been in the middle of.
        let child = unsafe {
            let child = libc::fork();
            if child == 0 {
                (address as *mut u8).write_volatile(1);
                libc::_exit(0);
            }
            child
        };
        let mut status = 0;
        // SAFETY: `status` lives; the child is ours.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status))
    }

    /// Whatever a device were to get wrong about a length: neither it nor the kernel on its behalf writes to
    /// what is next to guest memory.
    #[test]
    fn a_write_of_one_byte_too_many_is_a_fault() {
        const LEN: usize = 3 * PAGE;
        let zeroes = File::open("/dev/zero").unwrap();
        for mapping in [Mapping::new(LEN, 0, PAGE, false), Mapping::shared(LEN, 0, PAGE, false)] {
            let mapping = mapping.unwrap();
            let (first, beyond) = (mapping.addr(), mapping.addr() + LEN);
            assert_eq!((storing_ends_with(first), storing_ends_with(beyond - 1)), (None, None));
            for beside in [first - 1, beyond] {
                assert_eq!(storing_ends_with(beside), Some(libc::SIGSEGV));
                // SAFETY: the kernel looks whether it may write there.
                let read = unsafe { libc::read(zeroes.as_raw_fd(), beside as *mut libc::c_void, 1) };
                assert_eq!((read, io::Error::last_os_error().raw_os_error()), (-1, Some(libc::EFAULT)));
            }
            // As much as there is room for.
            // SAFETY: as above.
            let read =
                unsafe { libc::read(zeroes.as_raw_fd(), (beyond - PAGE) as *mut libc::c_void, 2 * PAGE) };
            assert!(read <= PAGE as isize, "{read}");
        }
    }

    #[test]
    fn what_is_shared_is_in_a_file_that_nobody_can_shorten() {
        use std::os::unix::fs::FileExt;

        let mut mapping = Mapping::shared(3 * PAGE, 0x1000, 2 << 20, false).unwrap();
        assert_eq!(mapping.addr() % (2 << 20), 0x1000);
        mapping.as_mut_slice()[PAGE] = 7;
        let region = mapping.into_region().unwrap();
        let file = region.file_offset().unwrap();
        let mut byte = [0];
        file.file().read_exact_at(&mut byte, file.start() + PAGE as u64).unwrap();
        assert_eq!(byte, [7]);
        for len in [0, 4 * PAGE as u64] {
            assert_eq!(file.file().set_len(len).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        }
    }

    #[test]
    fn more_than_there_are_addresses_is_an_error() {
        assert!(Mapping::new(usize::MAX - PAGE, 0, PAGE, false).is_err());
        assert!(Mapping::new(1 << 47, 0, PAGE, false).is_err());
    }
}
