//! What the CPU itself looks at: one area for each, and the shared interrupt table.
//!
//! The entry code writes descriptors and task state; offsets below are its and ours.

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU32, Ordering};

/// CPUs this kernel can use.
pub const CPUS: usize = 64;

/// Descriptors: null, kernel code, kernel data, (32-bit user code), user data, user code, task (2).
/// The order of the user's three is what SYSRET expects (SDM vol. 3 §5.8.8).
pub const KERNEL_CODE: u16 = 0x08;
pub const USER_CODE32: u16 = 0x18 | 3;
pub const USER_CODE: u16 = 0x28 | 3;

/// Offsets in a CPU's area, whose base is also the base of GS.
pub const AREA: usize = 0x4000;
const SAVED_RSP: usize = 0x40;
const INDEX: usize = 0x48;
/// Interrupts taken: 32 bits.
pub const INTERRUPTS: usize = 0x50;
const TASK: usize = 0x80;
/// I/O permission bitmap: ports 0 to 0xfff, all allowed.
const BITMAP: usize = 512;
/// Ring 0 for gates and interrupts, then for exceptions, then ring 3 for the idle loop.
const GATE_STACK: usize = 0x1000;
const EXCEPTION_STACK: usize = 0x2000;
pub const IDLE_STACK: usize = 0x4000;

#[repr(C, align(4096))]
struct Areas([[u8; AREA]; CPUS]);

/// Written by the entry code and the CPU only.
#[unsafe(link_section = ".areas")]
static mut CPU_AREAS: Areas = Areas([[0; AREA]; CPUS]);

// Every vCPU comes here at once (`abi::boot_info`): some forty instructions, because a host may
// interpret them, then everything else happens in ring 3.
global_asm!(
    ".section .text.entry, \"ax\"",
    ".global start",
    "start:",
    "    cld",
    "    mov esi, esi",
    "    cmp esi, {cpus}",
    "    jae 9f",
    "    imul ebx, esi, {area}",
    "    lea rbx, [rbx + {areas}]",
    "    mov [rbx + {index}], rsi",
    // Task state (SDM vol. 3 §8.7): RSP0, IST1, the bitmap and its closing byte.
    "    lea rsp, [rbx + {gate_stack}]",
    "    mov [rbx + {task} + 4], rsp",
    "    lea rax, [rbx + {exception_stack}]",
    "    mov [rbx + {task} + 0x24], rax",
    "    mov word ptr [rbx + {task} + 0x66], 0x68",
    "    mov byte ptr [rbx + {task} + 0x68 + {bitmap}], 0xff",
    "    movabs rax, 0x00af9b000000ffff",
    "    mov [rbx + 0x08], rax",
    "    movabs rax, 0x00cf93000000ffff",
    "    mov [rbx + 0x10], rax",
    "    movabs rax, 0x00cff3000000ffff",
    "    mov [rbx + 0x20], rax",
    "    movabs rax, 0x00affb000000ffff",
    "    mov [rbx + 0x28], rax",
    // The areas lie below 16 MiB, so that 24 bits of base are all of it.
    "    lea rax, [rbx + {task}]",
    "    shl rax, 16",
    "    movabs rcx, 0x890000000000 + 0x68 + {bitmap}",
    "    or rax, rcx",
    "    mov [rbx + 0x30], rax",
    "    push rbx",
    "    push 0",
    "    mov word ptr [rsp + 6], 0x3f",
    "    lgdt [rsp + 6]",
    "    lidt [rip + 8f]",
    "    mov eax, 0x30",
    "    ltr ax",
    "    mov ecx, 0xc0000101", // IA32_GS_BASE
    "    mov eax, ebx",
    "    xor edx, edx",
    "    wrmsr",
    "    lea rsp, [rbx + {gate_stack}]",
    "    lea rax, [rbx + {idle_stack} - 8]",
    "    push 0x23",
    "    push rax",
    "    push 0x202",
    "    push 0x2b",
    "    lea rax, [rip + {enter}]",
    "    push rax",
    "    xchg rdi, rsi",
    "    iretq",
    "9:  hlt",
    "    jmp 9b",
    "8:  .word 64 * 16 - 1",
    "    .quad {table}",
    enter = sym crate::kernel::enter,
    areas = sym CPU_AREAS,
    table = sym super::interrupts::IDT,
    cpus = const CPUS,
    area = const AREA,
    index = const INDEX,
    task = const TASK,
    bitmap = const BITMAP,
    gate_stack = const GATE_STACK,
    exception_stack = const EXCEPTION_STACK,
    idle_stack = const IDLE_STACK,
);

/// The CPU this code runs on.
pub fn index() -> usize {
    let index: usize;
    // SAFETY: GS is this CPU's area, whose index the entry code has written.
    unsafe {
        asm!("mov {}, gs:[{}]", out(reg) index, const INDEX, options(nostack, readonly, preserves_flags))
    };
    index
}

/// Counts the interrupts that `cpu` has taken.
pub fn interrupts(cpu: usize) -> &'static AtomicU32 {
    let area = (&raw const CPU_AREAS).cast::<u8>();
    // SAFETY: inside the areas, aligned, and nobody has a reference to it as anything else; that CPU's
    // handlers change it by one instruction.
    unsafe { &*area.add(cpu.min(CPUS - 1) * AREA + INTERRUPTS).cast::<AtomicU32>() }
}

/// Interrupts that `cpu` has taken, modulo 2^32.
pub fn taken(cpu: usize) -> u32 {
    interrupts(cpu).load(Ordering::Relaxed)
}

/// Top of the stack on which `cpu` idles, and on which it came into ring 3.
pub fn idle_stack(cpu: usize) -> usize {
    (&raw const CPU_AREAS) as usize + cpu * AREA + IDLE_STACK
}

/// Where a system call finds its stack and leaves the caller's: offsets from GS.
pub const SYSCALL_STACK: usize = TASK + 4;
pub const SYSCALL_SAVED: usize = SAVED_RSP;

/// Whether this code runs in ring 0.
pub fn in_ring0() -> bool {
    let selector: u16;
    // SAFETY: reads a register.
    unsafe { asm!("mov {0:x}, cs", out(reg) selector, options(nomem, nostack, preserves_flags)) };
    selector & 3 == 0
}

/// The time stamp counter.
pub fn tsc() -> u64 {
    // SAFETY: reads a register.
    unsafe { core::arch::x86_64::_rdtsc() }
}
