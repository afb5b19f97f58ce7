//! Interrupts between CPUs, to all and to nobody, and timers; local APICs set to anything but off for long.

use super::storm::Storm;
use crate::arch::apic;

/// Bits of a command (SDM vol. 3 §11.6.1): logical destination, level asserted, shorthands.
const LOGICAL: u32 = 1 << 11;
const ASSERT: u32 = 1 << 14;
const SHORTHANDS: [u32; 4] = [0, 1 << 18, 2 << 18, 3 << 18];
/// Modes of the timer: once, periodic, deadline; and none.
const TIMERS: [u32; 4] = [0, 1 << 17, 2 << 17, 3 << 17];
const MASKED: u32 = 1 << 16;
const FLOOD: usize = 16;

/// One command or one register, or a flood of commands.
pub fn deed(storm: &mut Storm<'_>) {
    match storm.random.below(8) {
        0 => flood(storm),
        1..4 => command(storm),
        4 => {
            let timer = storm.vector() | storm.random.of(&TIMERS);
            apic::disturb(apic::TIMER_DIVIDE, storm.random.below(16) as u32, 0);
            apic::disturb(apic::TIMER, timer, 0);
            apic::disturb(apic::TIMER_START, storm.random.value() as u32, 0);
        }
        5 => {
            let register = storm.random.of(&apic::LOCAL);
            let interrupt = storm.vector() | storm.delivery() << 8 | (storm.random.below(16) as u32) << 13;
            apic::disturb(register, interrupt, 0);
        }
        6 => {
            // No interrupt comes through until it is undone.
            apic::disturb(apic::PRIORITY, storm.random.value() as u32, 0);
            command(storm);
            apic::disturb(apic::PRIORITY, 0, 0);
        }
        _ => {
            let register = storm.random.of(&[apic::EOI, apic::ERRORS, apic::SPURIOUS]);
            apic::disturb(register, storm.random.value() as u32, 0);
            apic::start();
        }
    }
}

fn command(storm: &mut Storm<'_>) {
    let delivery = storm.delivery() << 8;
    let logical = if storm.random.once_in(4) { LOGICAL } else { 0 };
    let what = storm.vector() | delivery | logical | ASSERT | storm.random.of(&SHORTHANDS);
    apic::disturb(apic::COMMAND_LOW, what, storm.random.below(8) as u32);
}

fn flood(storm: &mut Storm<'_>) {
    let (what, to) = (storm.vector() | ASSERT | storm.random.of(&SHORTHANDS), storm.random.below(4) as u32);
    (0..FLOOD).for_each(|_| apic::disturb(apic::COMMAND_LOW, what, to));
}

/// This CPU's APIC as its kernel wants it.
pub fn calm() {
    apic::disturb(apic::PRIORITY, 0, 0);
    apic::LOCAL.iter().for_each(|register| apic::disturb(*register, MASKED, 0));
    apic::start();
}
