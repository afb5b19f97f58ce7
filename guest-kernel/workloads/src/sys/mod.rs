//! The only room of this crate with unsafe code: memory as words, memory shared out among threads,
//! and the inner loops that no compiler may choose differently on two platforms.
#![allow(unsafe_code)]

pub mod pieces;
#[cfg(target_arch = "x86_64")]
pub mod vector;

use core::slice;
use core::sync::atomic::AtomicU64;

use crate::hackbench::Queue;

/// The whole words of page-aligned memory.
pub fn words(memory: &mut [u8]) -> &mut [u64] {
    // SAFETY: any bytes are a u64.
    unsafe { memory.align_to_mut::<u64>().1 }
}

/// Words that several threads may change at once.
pub fn shared_words(memory: &mut [u64]) -> &[AtomicU64] {
    // SAFETY: same layout, and borrowed mutably as long as it is shared.
    unsafe { slice::from_raw_parts(memory.as_mut_ptr().cast::<AtomicU64>(), memory.len()) }
}

/// Empty queues, as many as fit.
pub fn queues(memory: &mut [u8]) -> &[Queue] {
    memory.fill(0);
    // SAFETY: a queue is made of atomic integers, so zeros are one; borrowed mutably as long as it
    // is shared.
    unsafe { memory.align_to_mut::<Queue>().1 }
}
