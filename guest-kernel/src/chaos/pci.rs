//! Configuration space: BARs moved over memory, over each other and over what else is there, decoding and
//! MSI-X turned off and on, and stores anywhere.

use super::storm::Storm;
use super::target::{HOLE, Target};
use crate::arch::device::Io;
use crate::arch::wild::{self, Access};
use crate::virtio::registers::Registers;

const COMMAND: usize = 0x04;
const BARS: usize = 0x10;
const SPACE: usize = 0x1000;
/// The header's end: what is changed before it is put back by [`Target::restore`].
const CAPABILITIES: usize = 0x40;

/// One change, and what depends on it.
pub fn deed(storm: &mut Storm<'_>) {
    let Some(target) = one(storm) else { return };
    match storm.random.below(8) {
        0..3 => move_bar(storm, &target),
        3 => Io.store16(target.config + COMMAND, storm.random.value() as u16),
        4 => anywhere(storm, &target),
        5 => size(storm, &target),
        _ => target.restore(),
    }
    if storm.random.once_in(2) {
        target.restore();
    }
}

fn one(storm: &mut Storm<'_>) -> Option<Target> {
    let target = *storm.targets.get(storm.random.below(storm.targets.len()))?;
    (target.config != 0).then_some(target)
}

fn move_bar(storm: &mut Storm<'_>, target: &Target) {
    let other =
        storm.targets.get(storm.random.below(storm.targets.len())).map_or(0, |other| other.registers().0);
    let place = match storm.random.below(8) {
        0 => storm.place(),
        1 => 0x10_0000,
        2 => HOLE + storm.random.below(1 << 30) as u64,
        3 => 0xe000_0000,
        4 => 0xfec0_0000 + storm.random.below(2) as u64 * 0x20_0000,
        5 => u64::MAX << storm.random.below(64),
        _ => (other as u64).wrapping_add(storm.random.of(&[0, 0x1000, 0x4000u64.wrapping_neg()])),
    };
    Io.store32(target.config + BARS, place as u32);
    Io.store32(target.config + BARS + 4, (place >> 32) as u32);
    let (registers, len) = target.registers();
    // Where it answers now, if that is a place for registers, and where it did.
    for base in [place as usize, registers] {
        let at = base.wrapping_add(storm.random.below(len) & !3);
        if (HOLE as usize..0xe000_0000).contains(&at) {
            wild::memory(at, 4, Access::Load, 0);
        }
    }
}

/// A store of any width, but not to the header, which [`move_bar`] and [`size`] do.
fn anywhere(storm: &mut Storm<'_>, target: &Target) {
    let width = storm.random.of(&[1, 2, 4, 8]);
    let space = if storm.random.once_in(2) { 0x100 } else { SPACE - 8 };
    let at = CAPABILITIES + storm.random.below(space - CAPABILITIES);
    // The function, one that isn't there, or the host bridge.
    let config = if storm.random.once_in(4) {
        (target.config & !0xf_ffff) + (storm.random.below(256) << 12)
    } else {
        target.config
    };
    let access = storm.random.of(&[Access::Load, Access::Store, Access::Store, Access::Exchange]);
    wild::memory(config + at, width, access, storm.random.value());
}

/// All ones, as one asks how large a BAR is; then perhaps half of it is put back.
fn size(storm: &mut Storm<'_>, target: &Target) {
    let bar = target.config + BARS + 4 * storm.random.below(8);
    Io.store32(bar, u32::MAX);
    Io.load32(bar);
}
