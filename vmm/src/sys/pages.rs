//! Anonymous memory of a page size.

use std::ptr::{self, NonNull};
use std::slice;

const HUGE: usize = 2 << 20;

/// Zeroed memory, private to this process, given back when dropped.
pub struct Pages {
    mapping: NonNull<libc::c_void>,
    mapped: usize,
    /// From the start of the mapping to the memory, which is aligned to 2 MiB.
    skip: usize,
    len: usize,
}

impl Pages {
    /// `len` bytes, backed by transparent huge pages where the kernel has them, or kept from being.
    /// `None` where there isn't so much.
    pub fn new(len: usize, huge: bool) -> Option<Pages> {
        let mapped = len.checked_add(HUGE)?;
        let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let mapping = unsafe { libc::mmap(ptr::null_mut(), mapped, access, flags, -1, 0) };
        if mapping == libc::MAP_FAILED {
            return None;
        }
        let advice = if huge { libc::MADV_HUGEPAGE } else { libc::MADV_NOHUGEPAGE };
        // SAFETY: the mapping is ours. A kernel without transparent huge pages refuses, and has none.
        unsafe { libc::madvise(mapping, mapped, advice) };
        let skip = (mapping as usize).next_multiple_of(HUGE) - mapping as usize;
        NonNull::new(mapping).map(|mapping| Pages { mapping, mapped, skip, len })
    }

    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: skip is less than HUGE, so skip + len lies inside the mapping, which is readable,
        // writable, zeroed, and borrowed through `self` alone.
        unsafe { slice::from_raw_parts_mut(self.mapping.as_ptr().cast::<u8>().add(self.skip), self.len) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nobody borrows from it any more.
        unsafe { libc::munmap(self.mapping.as_ptr(), self.mapped) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_aligned_zeroed_and_writable() {
        for huge in [false, true] {
            let mut pages = Pages::new(5000, huge).unwrap();
            let slice = pages.as_mut_slice();
            assert_eq!((slice.len(), slice.as_ptr() as usize % HUGE), (5000, 0));
            assert!(slice.iter().all(|byte| *byte == 0));
            slice.fill(1);
        }
        assert!(Pages::new(usize::MAX - 5, true).is_none() && Pages::new(1 << 60, true).is_none());
    }
}
