//! The last CPU, stopped and started at any moment of its way.

use super::storm::Storm;
use crate::arch::{apic, startup};

/// Before the first time.
pub fn get_ready() {
    startup::place_trampoline();
}

/// One of the three.
pub fn deed(storm: &mut Storm<'_>) {
    let Some(victim) = storm.victim else { return };
    match storm.random.below(4) {
        0 => startup::stop(victim),
        1 => apic::wake(victim),
        _ => startup::start(victim),
    }
}

/// Whether it runs again.
pub fn recover(victim: usize) -> bool {
    startup::recover(victim)
}
