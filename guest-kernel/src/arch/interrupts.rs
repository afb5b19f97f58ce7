//! The interrupt table and what happens on an exception.

use core::arch::global_asm;
use core::fmt::Write;

use abi::port;

use super::cpu::{self, CPUS, KERNEL_CODE};
use super::{apic, gate, io, steps, wild};
use crate::console::Console;

/// Vectors in the table.
const VECTORS: usize = 64;
/// Device interrupts, timer and wake-ups: they end a halt, no more.
pub const WAKE: u8 = 0x20;
/// Leave what you do and start over: a thread elsewhere has failed.
pub const RESTART: u8 = 0x21;

const GENERAL_PROTECTION: u64 = 13;

/// An interrupt gate: vector 3 may be entered from ring 3 (SDM vol. 3 §6.14.1).
#[derive(Clone, Copy)]
#[repr(C)]
struct Gate {
    low: u64,
    high: u64,
}

#[repr(C, align(16))]
pub struct Table([Gate; VECTORS]);

pub static mut IDT: Table = Table([Gate { low: 0, high: 0 }; VECTORS]);

impl Gate {
    fn to(handler: usize, privilege: u64, stack: u64) -> Gate {
        let handler = handler as u64;
        let attributes = 0x8e00 | privilege << 13 | stack;
        let low = handler & 0xffff
            | u64::from(KERNEL_CODE) << 16
            | attributes << 32
            | (handler >> 16 & 0xffff) << 48;
        Gate { low, high: handler >> 32 }
    }
}

// One stub of 16 bytes for each exception; those without an error code push a 0 for it.
global_asm!(
    ".text",
    ".balign 16",
    "exceptions:",
    ".set vector, 0",
    ".rept 32",
    "    .balign 16",
    "    .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21)",
    "    push 0",
    "    .endif",
    "    push vector",
    "    jmp 7f",
    "    .set vector, vector + 1",
    ".endr",
    ".balign 16",
    "restart:", // vector 0x21
    "    push 0",
    "    push 0x21",
    "7:  push rax",
    "    push rcx",
    "    push rdx",
    "    push rbx",
    "    push rbp",
    "    push rsi",
    "    push rdi",
    "    push r8",
    "    push r9",
    "    push r10",
    "    push r11",
    "    push r12",
    "    push r13",
    "    push r14",
    "    push r15",
    "    cld",
    "    mov rdi, rsp",
    "    mov rsi, cr2",
    "    call {exception}",
    "    pop r15",
    "    pop r14",
    "    pop r13",
    "    pop r12",
    "    pop r11",
    "    pop r10",
    "    pop r9",
    "    pop r8",
    "    pop rdi",
    "    pop rsi",
    "    pop rbp",
    "    pop rbx",
    "    pop rdx",
    "    pop rcx",
    "    pop rax",
    "    add rsp, 16",
    "    iretq",
    exception = sym exception,
);

unsafe extern "C" {
    static exceptions: u8;
    static restart: u8;
}

/// Fills the table, for the kind of APIC in use; its address is known to the CPUs since their first
/// instructions.
pub fn fill() {
    let interrupt =
        if apic::is_x2apic() { &raw const gate::interrupt_x2apic } else { &raw const gate::interrupt_xapic };
    let table = (&raw mut IDT).cast::<Gate>();
    for vector in 0..VECTORS {
        let entry = match vector {
            1 => Gate::to((&raw const steps::step) as usize, 0, 0),
            2 => Gate::to((&raw const gate::nmi) as usize, 0, 0),
            3 => Gate::to((&raw const gate::gate) as usize, 3, 0),
            // On a stack of their own: ring 0 may have run out of its.
            0..32 => Gate::to((&raw const exceptions) as usize + 16 * vector, 0, 1),
            _ if vector == usize::from(RESTART) => Gate::to((&raw const restart) as usize, 0, 1),
            _ => Gate::to(interrupt as usize, 0, 0),
        };
        // SAFETY: inside the table, which this CPU alone writes, before any interrupt is enabled.
        unsafe { table.add(vector).write(entry) };
    }
}

/// What the stubs have pushed, lowest address first.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Frame {
    r15: u64,
    r14: u64,
    r13: u64,
    r12: u64,
    r11: u64,
    r10: u64,
    r9: u64,
    r8: u64,
    rdi: u64,
    rsi: u64,
    rbp: u64,
    rbx: u64,
    rdx: u64,
    rcx: u64,
    rax: u64,
    vector: u64,
    error: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

/// The last exception of each CPU, for ring 3 to report.
static mut FAULTS: [(Frame, u64); CPUS] = {
    // SAFETY: all-zero is a valid frame of integers.
    unsafe { core::mem::zeroed() }
};

/// In ring 3 the CPU goes on in [`crate::kernel::fault`]; in ring 0 the machine ends.
extern "C" fn exception(frame: &mut Frame, cr2: u64) {
    let cpu = cpu::index();
    if let (GENERAL_PROTECTION, Some(next)) = (frame.vector, wild::expected(frame.rip)) {
        frame.rip = next;
    } else if frame.vector == u64::from(RESTART) {
        apic::end_of_interrupt();
        divert(frame, cpu, crate::kernel::restart as *const () as usize);
    } else if frame.cs & 3 == 3 {
        // SAFETY: an aligned slot of this CPU alone; nobody reads it before this CPU says so.
        unsafe { (&raw mut FAULTS).cast::<(Frame, u64)>().add(cpu).write((*frame, cr2)) };
        divert(frame, cpu, crate::kernel::fault as *const () as usize);
    } else {
        describe(frame, cr2, "in ring 0");
        panic();
    }
}

/// Returns to ring 3, at `function(cpu)`, on the idle stack, whatever was interrupted.
fn divert(frame: &mut Frame, cpu: usize, function: usize) {
    frame.rip = function as u64;
    frame.cs = u64::from(cpu::USER_CODE);
    frame.ss = u64::from(cpu::USER_CODE - 8);
    frame.rflags = 0x202;
    frame.rsp = cpu::idle_stack(cpu) as u64 - 8;
    frame.rdi = cpu as u64;
}

/// Prints the exception that `cpu` has met.
pub fn report(cpu: usize) {
    // SAFETY: `exception` wrote the slot on this CPU before it sent it here.
    let (frame, cr2) = unsafe { (&raw const FAULTS).cast::<(Frame, u64)>().add(cpu).read() };
    describe(&frame, cr2, "in ring 3");
}

fn describe(f: &Frame, cr2: u64, place: &str) {
    let mut out = Console::new();
    let _ = writeln!(
        out,
        "exception {} {place} on CPU {}: error {:#x}, cr2 {cr2:#x}\n\
         rip {:016x} rsp {:016x} rflags {:08x} cs {:02x}",
        f.vector,
        cpu::index(),
        f.error,
        f.rip,
        f.rsp,
        f.rflags,
        f.cs,
    );
    let _ = writeln!(out, "rax {:016x} rbx {:016x} rcx {:016x} rdx {:016x}", f.rax, f.rbx, f.rcx, f.rdx);
    let _ = writeln!(out, "rsi {:016x} rdi {:016x} rbp {:016x} r8  {:016x}", f.rsi, f.rdi, f.rbp, f.r8);
    let _ = writeln!(out, "r9  {:016x} r10 {:016x} r11 {:016x} r12 {:016x}", f.r9, f.r10, f.r11, f.r12);
    let _ = writeln!(out, "r13 {:016x} r14 {:016x} r15 {:016x}", f.r13, f.r14, f.r15);
}

/// Tells the monitor that this kernel can't go on.
pub fn panic() -> ! {
    loop {
        io::write(port::PVPANIC, &[port::PVPANIC_PANICKED]);
    }
}
