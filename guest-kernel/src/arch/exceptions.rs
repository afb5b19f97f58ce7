//! Exceptions on purpose.

use core::arch::asm;

pub fn undefined_opcode() {
    // SAFETY: control doesn't come back.
    unsafe { asm!("ud2", options(noreturn)) };
}

/// At an address that no table maps.
pub fn page_fault() {
    // SAFETY: the load faults, control doesn't come back.
    unsafe { asm!("mov al, [{}]", "ud2", in(reg) 0x7fff_ffff_f000u64, options(noreturn)) };
}

/// By an address that is none.
pub fn general_protection() {
    // SAFETY: the load faults, control doesn't come back.
    unsafe { asm!("mov al, [{}]", "ud2", in(reg) 1u64 << 63, options(noreturn)) };
}

pub fn divide_error() {
    // SAFETY: the division faults, control doesn't come back.
    unsafe { asm!("xor eax, eax", "xor edx, edx", "div eax", "ud2", options(noreturn)) };
}
