//! A part of a ring in a peer's memory: words and descriptors, each read or written once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use super::PeerMemory;

/// A contiguous part of a peer's memory, resolved once: a part of a ring.
pub struct Part {
    base: *mut u8,
    len: usize,
    /// Keeps the mapping alive.
    _memory: Arc<PeerMemory>,
}

// SAFETY: points into a shared mapping that is held beside it; accesses are atomic or volatile.
unsafe impl Send for Part {}

impl Part {
    /// `None` unless all of `guest..guest + len` lies in one region and `guest` is a multiple of `align`.
    pub fn new(memory: &Arc<PeerMemory>, guest: u64, len: usize, align: u64) -> Option<Part> {
        let (base, _, rest) = memory.find(guest, 0)?;
        let whole = rest >= len as u64 && guest.is_multiple_of(align) && (base as u64).is_multiple_of(align);
        whole.then(|| Part { base, len, _memory: memory.clone() })
    }

    #[inline]
    fn at<T>(&self, offset: usize) -> *mut T {
        let size = size_of::<T>();
        assert!(offset <= self.len && size <= self.len - offset && offset.is_multiple_of(align_of::<T>()));
        // SAFETY: inside the part, by the line above.
        unsafe { self.base.add(offset).cast() }
    }

    #[inline]
    fn word(&self, offset: usize) -> &AtomicU16 {
        // SAFETY: inside the mapping for as long as `self`, and aligned: parts are at least 2-aligned.
        unsafe { AtomicU16::from_ptr(self.at(offset)) }
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

    /// Reads a descriptor of a part that is 16-aligned, once.
    #[inline]
    pub fn descriptor(&self, index: usize) -> u128 {
        let pointer = self.at::<[u64; 2]>(16 * index);
        // SAFETY: inside the part and aligned; volatile, so that it is read once. A value torn by the
        // peer's own write is checked like any other.
        let [low, high] = unsafe { pointer.read_volatile() };
        u128::from(u64::from_le(low)) | u128::from(u64::from_le(high)) << 64
    }

    /// Writes a 32-bit word at a multiple of 4.
    #[inline]
    pub fn put_one(&self, offset: usize, word: u32) {
        // SAFETY: inside the part and aligned.
        unsafe { self.at::<u32>(offset).write_volatile(word.to_le()) }
    }

    /// Writes two 32-bit words at a multiple of 4.
    #[inline]
    pub fn put(&self, offset: usize, words: [u32; 2]) {
        // SAFETY: inside the part and aligned.
        unsafe { self.at::<[u32; 2]>(offset).write_volatile(words.map(u32::to_le)) }
    }
}
