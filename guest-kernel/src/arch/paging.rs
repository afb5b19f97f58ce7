//! Page sizes: a stretch of the identity map, made of 4 KiB pages for a while.

use core::arch::asm;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::cpu::{self, CPUS};
use super::gate;

/// What an entry of the last level but one maps.
const LARGE: usize = 2 << 20;
const SMALL: usize = 4096;
/// Present, writable, user; and that it is a large page.
const ENTRY: usize = 7;
const IS_LARGE: usize = 1 << 7;
const ADDRESS: usize = 0x000f_ffff_ffff_f000;

/// The stretch that is made of small pages; empty: there is none.
static SPLIT: (AtomicUsize, AtomicUsize) = (AtomicUsize::new(0), AtomicUsize::new(0));
/// Changes of the tables so far, and those that each CPU has taken notice of.
static CHANGES: AtomicU32 = AtomicU32::new(0);
static SEEN: [AtomicU32; CPUS] = [const { AtomicU32::new(0) }; CPUS];

/// Bytes of page tables for `bytes` of small pages.
pub fn tables(bytes: usize) -> usize {
    bytes.div_ceil(LARGE) * SMALL
}

/// Makes `range`, which begins at a large page, of small pages; `tables` lies outside of it and stays
/// theirs until [`join`].
pub fn split(range: Range<usize>, tables: &mut [u8]) {
    let end = range.end.next_multiple_of(LARGE);
    for (start, table) in (range.start..end).step_by(LARGE).zip(tables.chunks_exact_mut(SMALL)) {
        for (entry, page) in table.chunks_exact_mut(8).zip((start..).step_by(SMALL)) {
            entry.copy_from_slice(&(page | ENTRY).to_le_bytes());
        }
        set(start, table.as_ptr() as usize | ENTRY);
    }
    SPLIT.0.store(range.start, Ordering::Relaxed);
    SPLIT.1.store(end, Ordering::Relaxed);
    changed();
}

/// Makes what was split of large pages again.
pub fn join() {
    let (start, end) = (SPLIT.0.load(Ordering::Relaxed), SPLIT.1.swap(0, Ordering::Relaxed));
    if start < end {
        (start..end).step_by(LARGE).for_each(|page| set(page, page | ENTRY | IS_LARGE));
        changed();
    }
}

/// Before a thread uses memory on this CPU: forgets translations that were changed since the last time.
pub fn notice() {
    let changes = CHANGES.load(Ordering::Acquire);
    if SEEN[cpu::index()].swap(changes, Ordering::Relaxed) != changes {
        extern "C" fn reload(_: usize) {
            // SAFETY: the same tables; it forgets what was remembered of them.
            unsafe { asm!("mov {0}, cr3", "mov cr3, {0}", out(reg) _, options(nostack, preserves_flags)) };
        }
        gate::in_ring0(reload, 0);
    }
}

fn changed() {
    CHANGES.fetch_add(1, Ordering::Release);
    notice();
}

/// Sets the entry of the last level but one that maps `address`.
fn set(address: usize, value: usize) {
    extern "C" fn root(answer: usize) {
        // SAFETY: reads a register into the caller's variable, who waits.
        unsafe { asm!("mov {0}, cr3", "mov [{1}], {0}", out(reg) _, in(reg) answer, options(nostack)) };
    }
    let mut table = 0usize;
    gate::in_ring0(root, (&raw mut table) as usize);
    for shift in [39, 30] {
        // SAFETY: our tables are identity-mapped, and every level down to the last but one is there.
        table = unsafe { entry(table, address, shift).read_volatile() };
    }
    // SAFETY: as above; the new entry maps the same memory.
    unsafe { entry(table, address, 21).write_volatile(value) };
}

fn entry(table: usize, address: usize, shift: u32) -> *mut usize {
    ((table & ADDRESS) + (address >> shift & 511) * 8) as *mut usize
}
