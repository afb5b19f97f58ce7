//! Physical memory, identity-mapped: what a number means there.

use core::cell::OnceCell;
use core::ops::Range;
use core::slice;

use abi::boot_info::BootInfo;

use crate::boot;
use crate::memory::Loan;

unsafe extern "C" {
    static kernel_end: u8;
    static start_memory: u8;
    static start_memory_end: u8;
}

/// Where the kernel ends and free memory begins.
pub fn first_free() -> usize {
    (&raw const kernel_end) as usize
}

/// Memory for what is needed before any is lent, beside the kernel so that no further page of the host is
/// touched until then.
pub fn for_start() -> Range<usize> {
    (&raw const start_memory) as usize..(&raw const start_memory_end) as usize
}

/// What the monitor or loader has left at `address`; to be read before any memory is lent.
pub fn boot_info(address: usize) -> Option<BootInfo<'static>> {
    // SAFETY: mapped, and nobody writes it before memory is lent.
    boot::read(address, &|address, len| unsafe { slice::from_raw_parts(address as *const u8, len) })
}

/// What the monitor has laid behind the memory that is lent.
pub fn image(start: usize, len: usize) -> &'static [u8] {
    // SAFETY: mapped, and nobody writes it.
    unsafe { slice::from_raw_parts(start as *const u8, len) }
}

/// Memory on loan, as bytes.
pub fn bytes(loan: &mut Loan) -> &mut [u8] {
    let range = loan.range();
    // SAFETY: mapped, behind the kernel, and a loan is the only one of its range.
    unsafe { slice::from_raw_parts_mut(range.start as *mut u8, range.len()) }
}

/// Memory on loan, as bytes, for good.
pub fn leak(loan: Loan) -> &'static mut [u8] {
    let range = loan.range();
    // SAFETY: as above, and the loan can't be given back any more.
    unsafe { slice::from_raw_parts_mut(range.start as *mut u8, range.len()) }
}

/// What CPU 0 sets once, before any other CPU or thread runs.
pub struct Late<T>(OnceCell<T>);

// SAFETY: written before there is a second thread, only read afterwards.
unsafe impl<T: Sync> Sync for Late<T> {}

impl<T: Copy> Late<T> {
    pub const fn new() -> Late<T> {
        Late(OnceCell::new())
    }

    pub fn set(&self, value: T) {
        // A second value is not taken.
        let _ = self.0.set(value);
    }

    pub fn get(&self) -> Option<T> {
        self.0.get().copied()
    }
}
