//! A fixed piece of guest memory, resolved once: the three parts of a ring.
//!
//! The guest writes it at any time, so every access is atomic or volatile, and each is checked
//! against the length. Multi-byte values are little-endian, as x86 is.

use std::sync::atomic::{AtomicU16, Ordering};

use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

use super::Memory;

/// `len` bytes of guest memory, contiguous on the host.
pub struct Window {
    base: *mut u8,
    len: usize,
    /// Keeps the mapping alive.
    _memory: Memory,
}

// SAFETY: the pointer is to a shared mapping that lives as long as the `Memory` held beside it, and
// is only used for volatile and atomic accesses, which any thread may make.
unsafe impl Send for Window {}
// SAFETY: as above.
unsafe impl Sync for Window {}

/// Where `len` bytes of guest memory are in this process, if they all lie in one region.
pub fn host_address(memory: &Memory, address: u64, len: u64) -> Option<*mut u8> {
    let (region, offset) = memory.to_region_addr(GuestAddress(address))?;
    if region.len().checked_sub(offset.0)? < len {
        return None;
    }
    region.get_host_address(offset).ok()
}

impl Window {
    /// `None` unless all of `address..address + len` lies in one region and `address` is a multiple
    /// of `align`.
    pub fn new(memory: &Memory, address: u64, len: usize, align: u64) -> Option<Window> {
        if !address.is_multiple_of(align) {
            return None;
        }
        let base = host_address(memory, address, len as u64)?;
        Some(Window { base, len, _memory: memory.clone() })
    }

    fn at(&self, offset: usize, size: usize) -> *mut u8 {
        assert!(offset <= self.len && size <= self.len - offset, "{offset}+{size} in {}", self.len);
        // SAFETY: inside the mapping, by the line above.
        unsafe { self.base.add(offset) }
    }

    fn word(&self, offset: usize) -> &AtomicU16 {
        let pointer = self.at(offset, 2).cast::<u16>();
        debug_assert!(pointer.is_aligned());
        // SAFETY: inside the mapping for as long as `self`; rings are at least 2-aligned (checked by
        // `new`) and callers use even offsets; other accesses to it are the guest's.
        unsafe { AtomicU16::from_ptr(pointer) }
    }

    /// Loads the 16-bit word at `offset`, an even number.
    #[inline]
    pub fn load(&self, offset: usize, order: Ordering) -> u16 {
        u16::from_le(self.word(offset).load(order))
    }

    /// Stores the 16-bit word at `offset`, an even number.
    #[inline]
    pub fn store(&self, offset: usize, value: u16, order: Ordering) {
        self.word(offset).store(value.to_le(), order);
    }

    /// Reads two 64-bit words: a descriptor, in one go.
    #[inline]
    pub fn pair(&self, offset: usize) -> [u64; 2] {
        let pointer = self.at(offset, 16).cast::<[u64; 2]>();
        assert!(pointer.is_aligned());
        // SAFETY: inside the mapping and aligned, by the lines above; volatile, so that it is read
        // once; a value torn by the guest's own write is checked like any other.
        unsafe { pointer.read_volatile() }
    }

    /// Writes two 32-bit words: an element of the used ring.
    #[inline]
    pub fn put(&self, offset: usize, words: [u32; 2]) {
        let pointer = self.at(offset, 8).cast::<[u32; 2]>();
        assert!(pointer.is_aligned());
        // SAFETY: as in `pair`.
        unsafe { pointer.write_volatile(words) }
    }
}
