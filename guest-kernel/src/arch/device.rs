//! Devices: their registers, and memory shared with them.

use core::mem;
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use crate::memory::Loan;
use crate::virtio::registers::{Registers, Shared};

/// The registers of this machine: identity-mapped, so that any ring reaches them.
pub struct Io;

macro_rules! access {
    ($load:ident $store:ident $word:ty) => {
        fn $load(&self, address: usize) -> $word {
            // SAFETY: an address that a bus or the monitor has named, below 4 GiB: mapped, no memory of
            // ours.
            unsafe { (address as *const $word).read_volatile() }
        }
        fn $store(&self, address: usize, value: $word) {
            // SAFETY: as above.
            unsafe { (address as *mut $word).write_volatile(value) };
        }
    };
}

impl Registers for Io {
    access!(load8 store8 u8);
    access!(load16 store16 u16);
    access!(load32 store32 u32);

    fn out16(&self, port: u16, value: u16) {
        super::io::write_u16(port, value);
    }
}

/// Memory on loan that is shared with a device, and among threads.
pub struct Window(Loan);

impl Window {
    /// Of no memory.
    pub const NONE: Window = Window(Loan::NONE);

    /// Of memory that is all zero from now on.
    pub fn new(mut loan: Loan) -> Window {
        super::memory::bytes(&mut loan).fill(0);
        Window(loan)
    }

    /// The loan back, after the device has been reset.
    pub fn end(&mut self) -> Loan {
        mem::take(&mut self.0)
    }

    /// The word at `at`; `None` beyond the end, and where it isn't aligned.
    fn word<T>(&self, at: usize) -> Option<&T> {
        let range = self.0.range();
        let aligned = at.is_multiple_of(size_of::<T>());
        let inside = aligned && at.checked_add(size_of::<T>()).is_some_and(|end| end <= range.len());
        // SAFETY: inside the loan, which starts on a page, and nobody has a reference to its bytes; `T` is
        // an atomic integer (the callers below).
        inside.then(|| unsafe { &*((range.start + at) as *const T) })
    }

    /// Copies `bytes` to `at`, as far as there is room. Its user has this part, and not the device.
    pub fn put(&self, at: usize, bytes: &[u8]) {
        let range = self.0.range();
        let room = range.len().saturating_sub(at).min(bytes.len());
        // SAFETY: inside the loan, to whose bytes nobody has a reference.
        unsafe { ((range.start + at) as *mut u8).copy_from_nonoverlapping(bytes.as_ptr(), room) };
    }

    /// Copies from `at` to `bytes`, as far as there is any.
    pub fn get(&self, at: usize, bytes: &mut [u8]) {
        let range = self.0.range();
        let there = range.len().saturating_sub(at).min(bytes.len());
        // SAFETY: as above.
        unsafe { ((range.start + at) as *const u8).copy_to_nonoverlapping(bytes.as_mut_ptr(), there) };
    }
}

impl Shared for Window {
    fn address(&self) -> u64 {
        self.0.range().start as u64
    }
    fn load16(&self, at: usize) -> u16 {
        self.word(at).map_or(0, |word: &AtomicU16| word.load(Ordering::Acquire))
    }
    fn load32(&self, at: usize) -> u32 {
        self.word(at).map_or(0, |word: &AtomicU32| word.load(Ordering::Acquire))
    }
    fn store16(&self, at: usize, value: u16) {
        if let Some(word) = self.word::<AtomicU16>(at) {
            word.store(value, Ordering::Release);
        }
    }
    fn store64(&self, at: usize, value: u64) {
        if let Some(word) = self.word::<AtomicU64>(at) {
            word.store(value, Ordering::Release);
        }
    }
}
