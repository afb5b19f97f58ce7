//! Bytes from one peer's memory to another's. A frame is short, so what a call of memcpy costs before
//! its first byte matters as much as its speed: vectors of 16 bytes, which every x86-64 has, and an
//! overlapping last one in place of a tail of bytes.

use std::arch::x86_64::{__m128i, _MM_HINT_T0, _mm_loadu_si128, _mm_prefetch, _mm_storeu_si128};
use std::ptr;

/// From here on the CPU's own `rep movsb` is as good, and leaves the decision to the CPU.
const LONG: usize = 4096;

/// Copies `len` bytes.
///
/// # Safety
///
/// `from` and `to` point to `len` bytes each, of memory that may be read and written.
#[inline(always)]
pub unsafe fn bytes(from: *const u8, to: *mut u8, len: usize) {
    if !(16..LONG).contains(&len) {
        // SAFETY: the caller's; memmove, since a peer may hand us ranges that overlap.
        return unsafe { ptr::copy(from, to, len) };
    }
    let last = len - 16;
    // SAFETY: all accesses are to bytes 0..len, by the bounds of the loops and `len >= 16`.
    unsafe {
        let end = load(from.add(last));
        let mut at = 0;
        while at + 64 <= len {
            let (a, b) = (load(from.add(at)), load(from.add(at + 16)));
            let (c, d) = (load(from.add(at + 32)), load(from.add(at + 48)));
            store(to.add(at), a);
            store(to.add(at + 16), b);
            store(to.add(at + 32), c);
            store(to.add(at + 48), d);
            at += 64;
        }
        while at < last {
            store(to.add(at), load(from.add(at)));
            at += 16;
        }
        store(to.add(last), end);
    }
}

#[inline(always)]
unsafe fn load(from: *const u8) -> __m128i {
    // SAFETY: the caller's: 16 bytes, at any address.
    unsafe { _mm_loadu_si128(from.cast()) }
}

#[inline(always)]
unsafe fn store(to: *mut u8, value: __m128i) {
    // SAFETY: the caller's: 16 bytes, at any address.
    unsafe { _mm_storeu_si128(to.cast(), value) }
}

/// Bytes of a cache line of every x86-64.
pub const LINE: usize = 64;

/// Whether a header of so many bytes begins in another cache line than what follows it.
#[inline]
pub fn apart(header: *const u8, len: usize) -> bool {
    header.addr() / LINE != (header.addr() + len) / LINE
}

/// Asks for a cache line that will be read soon; any address will do.
#[inline]
pub fn prefetch(at: *const u8) {
    // SAFETY: a prefetch never faults.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_and_nothing_beside_it() {
        let from: Vec<u8> = (0..5000).map(|i| (i * 7 % 251) as u8).collect();
        for len in (0..300).chain([1024, 1500, 4095, 4096, 4097]) {
            let mut to = vec![0xee; 5002];
            // SAFETY: both are long enough.
            unsafe { bytes(from.as_ptr().add(1), to.as_mut_ptr().add(1), len) };
            assert_eq!(to[1..=len], from[1..=len], "{len}");
            assert!(to[0] == 0xee && to[len + 1..].iter().all(|&byte| byte == 0xee), "{len}");
        }
    }
}
