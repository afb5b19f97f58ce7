//! The three ways into the kernel that `null` compares: a direct call, a call through a table, and
//! a real SYSCALL from ring 3.

use core::arch::{asm, global_asm};

use super::cpu::{KERNEL_CODE, SYSCALL_SAVED, SYSCALL_STACK, USER_CODE32};
use super::gate;
use crate::file;

/// An entry of the kernel: file, address, length → bytes, or a negative error number.
pub type Entry = extern "C" fn(usize, usize, usize) -> isize;

/// A call that stays one: inlined, it would not be the gate that is measured.
#[inline(never)]
pub extern "C" fn write(file: usize, address: usize, length: usize) -> isize {
    file::write(file, address, length)
}

#[inline(never)]
pub extern "C" fn read(file: usize, address: usize, length: usize) -> isize {
    file::read(file, address, length)
}

/// The kernel's entry points by number.
static SYSCALLS: [Entry; 2] = [write, read];

pub const WRITE: usize = 0;
pub const READ: usize = 1;

// What a kernel pays: GS exchanged, the stack changed, the number checked (SDM vol. 3 §5.8.8).
global_asm!(
    ".text",
    ".balign 16",
    "syscall_entry:",
    "    swapgs",
    "    mov gs:[{saved}], rsp",
    "    mov rsp, gs:[{stack}]",
    "    push rcx",
    "    push r11",
    "    cmp rax, 2",
    "    jae 2f",
    "    call [{table} + rax * 8]",
    "2:  pop r11",
    "    pop rcx",
    "    mov rsp, gs:[{saved}]",
    "    swapgs",
    "    sysretq",
    table = sym SYSCALLS,
    saved = const SYSCALL_SAVED,
    stack = const SYSCALL_STACK,
);

unsafe extern "C" {
    static syscall_entry: u8;
}

const STAR: u32 = 0xc000_0081;
const LSTAR: u32 = 0xc000_0082;
const SFMASK: u32 = 0xc000_0084;
const KERNEL_GS_BASE: u32 = 0xc000_0102;
/// Flags that SYSCALL clears: AC, DF, IF, TF.
const CLEARED: u64 = 0x4_0700;
const TF: u64 = 1 << 8;

/// Lets this CPU enter by SYSCALL; only where ring 0 is native.
pub fn enable() {
    let area = super::cpu::idle_stack(super::cpu::index()) - super::cpu::IDLE_STACK;
    for (msr, value) in [
        (STAR, u64::from(USER_CODE32) << 48 | u64::from(KERNEL_CODE) << 32),
        (LSTAR, (&raw const syscall_entry) as u64),
        (SFMASK, CLEARED),
        (KERNEL_GS_BASE, area as u64),
    ] {
        // SAFETY: an entry that returns, and the GS base that this CPU has already.
        unsafe { gate::wrmsr(msr, value) };
    }
}

/// Lets this CPU's kernel be counted step by step, too, or no more.
pub fn stepped(on: bool) {
    // SAFETY: the handler of debug exceptions changes a counter alone.
    unsafe { gate::wrmsr(SFMASK, if on { CLEARED & !TF } else { CLEARED }) };
}

/// Through the table.
pub fn by_table(number: usize, file: usize, address: usize, length: usize) -> isize {
    core::hint::black_box(&SYSCALLS).get(number).map_or(-38, |entry| entry(file, address, length))
}

/// By SYSCALL, from ring 3, after [`enable`].
pub fn by_syscall(number: usize, file: usize, address: usize, length: usize) -> isize {
    let result: usize;
    // SAFETY: the entry point follows the C convention and SYSCALL's own clobbers.
    unsafe {
        asm!("syscall", inout("rax") number => result, in("rdi") file, in("rsi") address, in("rdx") length,
             clobber_abi("C"))
    };
    result as isize
}
