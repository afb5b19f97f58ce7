//! Second CPUs where the monitor is not ours, and those that were stopped: started by INIT and SIPI (SDM
//! vol. 3 §9.4), through real mode and protected mode to the entry that all CPUs share.

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU32, Ordering};

use super::apic;
use super::cpu::{self, CPUS};
use super::gate;
use crate::kernel::MACHINE;

/// The page where a started CPU begins, below 1 MiB; what a loader left there has been read.
const PAGE: usize = 0x8000;
/// Its number, for the start-up IPI.
const VECTOR: u8 = (PAGE >> 12) as u8;
/// Where in it the descriptor table's length and address are.
const TABLE: usize = 0x20;
/// Waits of the protocol, and for a CPU to come.
const AFTER_INIT_NS: u64 = 10_000_000;
const AFTER_STARTUP_NS: u64 = 200_000;
const PATIENCE_NS: u64 = 200_000_000;
/// Between two wakes of a CPU on its way: each takes it out of the guest where the host emulates the APIC, and
/// one that is woken without a pause may not get on.
const BETWEEN_WAKES_NS: u64 = 10_000_000;

/// The page tables of CPU 0, which lie below 4 GiB, for all.
static TABLES: AtomicU32 = AtomicU32::new(0);

// As `pvh_entry` does it; the CPU's number is its APIC's.
global_asm!(
    ".section .text.pvh, \"ax\"",
    ".code32",
    "second_cpu:",
    "    mov ax, 0x10",
    "    mov ds, eax",
    "    mov es, eax",
    "    mov ss, eax",
    "    mov eax, [{tables}]",
    "    mov cr3, eax",
    "    mov eax, 0x620",
    "    mov cr4, eax",
    "    mov ecx, 0xc0000080",
    "    rdmsr",
    "    or eax, 0x901",
    "    wrmsr",
    "    mov eax, 0x80010033",
    "    mov cr0, eax",
    "    .byte 0xea", // jmp 8:second_cpu_long
    "    .long second_cpu_long",
    "    .word 8",
    ".code64",
    "second_cpu_long:",
    "    mov eax, 1",
    "    cpuid",
    "    shr ebx, 24",
    "    mov esi, ebx",
    "    xor edi, edi",
    "    jmp start",
    tables = sym TABLES,
);

unsafe extern "C" {
    static second_cpu: u8;
    static pvh_descriptors: u8;
}

/// Starts CPUs 1 to `cpus` - 1, one after the other; how many there are then.
pub fn start_others(cpus: usize) -> usize {
    if cpus > 1 {
        place_trampoline();
    }
    for cpu in 1..cpus.min(CPUS) {
        apic::init(cpu);
        wait(AFTER_INIT_NS, || false);
        for _ in 0..2 {
            apic::start_up(cpu, VECTOR);
            wait(AFTER_STARTUP_NS, || MACHINE.scheduler.is_online(cpu));
        }
        if !wait(PATIENCE_NS, || MACHINE.scheduler.is_online(cpu)) {
            return cpu;
        }
    }
    cpus.clamp(1, CPUS)
}

/// Stops a CPU that runs no thread, or what it does on its way back.
pub fn stop(cpu: usize) {
    apic::init(cpu);
}

/// Starts a CPU that was stopped; one that runs takes no notice.
pub fn start(cpu: usize) {
    apic::start_up(cpu, VECTOR);
}

/// Has a CPU that may be anywhere on its way run again, and take interrupts; whether it does.
pub fn recover(cpu: usize) -> bool {
    (0..5).any(|_| {
        stop(cpu);
        wait(AFTER_INIT_NS, || false);
        start(cpu);
        wait(AFTER_STARTUP_NS, || false);
        start(cpu);
        let before = cpu::taken(cpu);
        (0..PATIENCE_NS / BETWEEN_WAKES_NS).any(|_| {
            apic::wake(cpu);
            wait(BETWEEN_WAKES_NS, || cpu::taken(cpu) != before)
        })
    })
}

fn wait(ns: u64, done: impl Fn() -> bool) -> bool {
    let end = MACHINE.scheduler.now() + ns;
    while !done() {
        if MACHINE.scheduler.now() > end {
            return false;
        }
        core::hint::spin_loop();
    }
    true
}

/// Notes where the page tables of this CPU are: all CPUs have the same.
fn note_tables() {
    extern "C" fn read(_: usize) {
        let tables: usize;
        // SAFETY: reads a register, in ring 0.
        unsafe { asm!("mov {}, cr3", out(reg) tables, options(nomem, nostack, preserves_flags)) };
        TABLES.store(tables as u32, Ordering::SeqCst);
    }
    gate::in_ring0(read, 0);
}

/// Real mode: cli; DS = 0; the descriptor table; CR0.PE; jmp 0x18:second_cpu.
pub fn place_trampoline() {
    note_tables();
    let [low, high] = ((PAGE + TABLE) as u16).to_le_bytes();
    let [a, b, c, d] = ((&raw const second_cpu) as usize as u32).to_le_bytes();
    let code = [
        0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0x66, 0x0f, 0x01, 0x16, low, high, 0x0f, 0x20, 0xc0, 0x0c, 0x01, 0x0f,
        0x22, 0xc0, 0x66, 0xea, a, b, c, d, 0x18, 0x00,
    ];
    let mut page = [0; TABLE + 6];
    page[..code.len()].copy_from_slice(&code);
    page[TABLE] = 31;
    page[TABLE + 2..].copy_from_slice(&((&raw const pvh_descriptors) as usize as u32).to_le_bytes());
    // SAFETY: memory below 1 MiB, which this kernel uses for nothing else.
    unsafe { (PAGE as *mut [u8; TABLE + 6]).write_volatile(page) };
}
