//! The local APIC: xAPIC where ring 0 is interpreted (its page is mapped, so ring 3 drives it
//! without a gate), x2APIC where the CPU has it and ring 0 is native.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use abi::boot_info::{Apic, Ring0};

use super::interrupts::{RESTART, WAKE};
use super::{gate, wild};

/// Physical address of the xAPIC's registers after reset.
const XAPIC: usize = 0xfee0_0000;
/// IA32_APIC_BASE, and its bit that turns x2APIC on (SDM vol. 3 §11.12.1).
const APIC_BASE: u32 = 0x1b;
const X2APIC_ON: u64 = 1 << 10;

/// Registers by their xAPIC offset; x2APIC's number is 0x800 + offset / 16 (SDM vol. 3 §11.12.1.2).
pub const PRIORITY: usize = 0x80;
pub const EOI: usize = 0xb0;
pub const SPURIOUS: usize = 0xf0;
pub const COMMAND_LOW: usize = 0x300;
const COMMAND_HIGH: usize = 0x310;
pub const TIMER: usize = 0x320;
const TIMER_TSC_DEADLINE: u32 = 2 << 17;

/// The other local interrupts, and the errors: thermal, counters, LINT0, LINT1, error (SDM vol. 3 §11.5.1).
pub const LOCAL: [usize; 5] = [0x330, 0x340, 0x350, 0x360, 0x370];
pub const ERRORS: usize = 0x280;

/// One-shot timer of those without TSC deadline: start value, divisor (SDM vol. 3 §11.5.4).
pub const TIMER_START: usize = 0x380;
const TIMER_NOW: usize = 0x390;
pub const TIMER_DIVIDE: usize = 0x3e0;
const TIMER_DIVIDE_BY_1: u32 = 0b1011;

static X2APIC: AtomicBool = AtomicBool::new(false);
static TSC_DEADLINE: AtomicBool = AtomicBool::new(false);

/// Chooses the modes, once, before any CPU starts its APIC: as told, or what the CPU has. x2APIC is for
/// hosts whose ring 0 is native, unless the CPU came up in it.
pub fn choose(ring0: Ring0, told: Option<Apic>) {
    let apic = told.unwrap_or_else(|| {
        let features = gate::cpuid(1).ecx;
        let on = gate::rdmsr(APIC_BASE) & X2APIC_ON != 0;
        let x2 = on || ring0 == Ring0::Native && features & 1 << 21 != 0;
        Apic { x2, tsc_deadline: features & 1 << 24 != 0 }
    });
    X2APIC.store(apic.x2, Ordering::Relaxed);
    TSC_DEADLINE.store(apic.tsc_deadline, Ordering::Relaxed);
}

pub fn is_x2apic() -> bool {
    X2APIC.load(Ordering::Relaxed)
}

/// Turns this CPU's APIC on, its timer in TSC-deadline mode.
pub fn start() {
    if is_x2apic() {
        let base = gate::rdmsr(APIC_BASE);
        // SAFETY: the same APIC by other addresses.
        unsafe { gate::wrmsr(APIC_BASE, base | X2APIC_ON) };
    }
    write(SPURIOUS, 0x1ff);
    if TSC_DEADLINE.load(Ordering::Relaxed) {
        write(TIMER, TIMER_TSC_DEADLINE | u32::from(WAKE));
    } else {
        write(TIMER_DIVIDE, TIMER_DIVIDE_BY_1);
        write(TIMER, u32::from(WAKE));
    }
}

/// Halts until an interrupt, at the latest in about `ns` nanoseconds, unless `word` is no longer `value`.
pub fn halt_for(ns: u64, ticks: u64, word: &AtomicU32, value: u32) {
    if TSC_DEADLINE.load(Ordering::Relaxed) {
        gate::halt_until(super::cpu::tsc().saturating_add(ticks), word, value);
    } else {
        // One tick is a nanosecond: KVM's and QEMU's APIC bus runs at 1 GHz.
        write(TIMER_START, u32::try_from(ns).unwrap_or(u32::MAX).max(1));
        gate::halt_unless(word, value);
    }
}

/// Ticks of the time stamp counter in a millisecond, by the APIC timer's 1 GHz.
pub fn measure_tsc_khz() -> u32 {
    write(TIMER_DIVIDE, TIMER_DIVIDE_BY_1);
    write(TIMER_START, u32::MAX);
    let (ticks, start) = (read(TIMER_NOW), super::cpu::tsc());
    while ticks.wrapping_sub(read(TIMER_NOW)) < 10_000_000 {}
    let khz = (super::cpu::tsc() - start) / 10;
    write(TIMER_START, 0);
    khz as u32
}

/// Interrupts `cpu` out of its halt.
pub fn wake(cpu: usize) {
    send(cpu, WAKE);
}

/// Makes `cpu` start over.
pub fn restart(cpu: usize) {
    send(cpu, RESTART);
}

/// Delivery modes (SDM vol. 3 §11.6.1), level asserted.
const INIT: u32 = 0x4500;
const START_UP: u32 = 0x4600;

/// Resets a CPU that is to be started.
pub fn init(cpu: usize) {
    command(cpu, INIT);
}

/// Starts it in real mode, in this page.
pub fn start_up(cpu: usize, page: u8) {
    command(cpu, START_UP | u32::from(page));
}

/// Writes any of its registers, if the CPU takes it; the command's destination goes with it.
pub fn disturb(register: usize, value: u32, destination: u32) {
    if is_x2apic() {
        wild::write_if_taken(0x800 + (register as u32 >> 4), u64::from(destination) << 32 | u64::from(value));
    } else {
        if register == COMMAND_LOW {
            write(COMMAND_HIGH, destination << 24);
        }
        write(register, value);
    }
}

/// A fixed interrupt to one CPU.
pub fn send(cpu: usize, vector: u8) {
    command(cpu, vector.into());
}

/// Commands the APIC of one CPU, whose number is its APIC's id.
fn command(cpu: usize, what: u32) {
    if is_x2apic() {
        let command = (cpu as u64) << 32 | u64::from(what);
        // SAFETY: an interrupt to a vector of ours, or the start of a CPU that does nothing yet.
        unsafe { gate::wrmsr(0x800 + (COMMAND_LOW as u32 >> 4), command) };
    } else {
        write(COMMAND_HIGH, (cpu as u32) << 24);
        write(COMMAND_LOW, what);
    }
}

/// Acknowledges the interrupt in service; the handlers in `gate` do it by themselves.
pub fn end_of_interrupt() {
    write(EOI, 0);
}

fn read(register: usize) -> u32 {
    if is_x2apic() {
        gate::rdmsr(0x800 + (register as u32 >> 4)) as u32
    } else {
        // SAFETY: identity-mapped, present since reset, not memory of ours.
        unsafe { ((XAPIC + register) as *const u32).read_volatile() }
    }
}

fn write(register: usize, value: u32) {
    if is_x2apic() {
        // SAFETY: none of these registers touches memory.
        unsafe { gate::wrmsr(0x800 + (register as u32 >> 4), u64::from(value)) };
    } else {
        // SAFETY: identity-mapped, present since reset, not memory of ours.
        unsafe { ((XAPIC + register) as *mut u32).write_volatile(value) };
    }
}
