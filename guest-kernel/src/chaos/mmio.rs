//! Registers in memory: of every device, between them, and where nothing is; any width and alignment, by
//! several instructions.

use super::storm::Storm;
use super::target::HOLE;
use crate::arch::wild::{self, Access};

/// Beyond these an access is one to interrupt controllers, which have a deed of their own.
const CONTROLLERS: usize = 0xfec0_0000;
/// Room for a string of the widest elements.
const STRING: usize = 256 * 8;

/// One access.
pub fn deed(storm: &mut Storm<'_>) {
    let (random, targets) = (&mut storm.random, storm.targets);
    let target = targets.get(random.below(targets.len()));
    let (base, len) = match target {
        Some(target) if !random.once_in(8) => target.registers(),
        _ => (HOLE as usize, CONTROLLERS - STRING - HOLE as usize),
    };
    let width = random.of(&[1, 1, 2, 2, 4, 4, 4, 4, 8, 8, 16]);
    let at = base + random.below(len);
    // Mostly as a driver would.
    let at = if random.once_in(4) { at } else { at / width * width };
    let access = match random.below(16) {
        0 => Access::Exchange,
        1 => Access::Fill(random.below(32) as u8),
        2..8 => Access::Load,
        _ => Access::Store,
    };
    // Interrupts are set where nothing worse can come of them than interrupts.
    let touched = if let Access::Fill(_) = access { STRING } else { width };
    let table = targets.iter().any(|target| target.is_table(at, touched));
    wild::memory(at, width, if table { Access::Load } else { access }, random.value());
}
