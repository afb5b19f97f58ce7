//! Status: reset in the middle of what is under way, and steps of a driver's beginning out of order.

use super::storm::Storm;
use crate::arch::device::Io;
use crate::virtio::device::Place;
use crate::virtio::registers::Registers;

/// A kick, then a status.
pub fn deed(storm: &mut Storm<'_>) {
    let index = storm.random.below(storm.targets.len());
    let Some(target) = storm.targets.get(index) else { return };
    if let Some(ring) = storm.rings.iter().flatten().find(|ring| ring.target == index) {
        ring.kick();
    }
    let status = match storm.random.below(4) {
        0 => storm.random.any() as u8,
        1 => storm.random.of(&[1, 3, 11, 15, 4, 64, 128]),
        _ => 0,
    };
    match target.place {
        Place::Pci(_) => Io.store8(target.status(), status),
        Place::Mmio(_) => Io.store32(target.status(), status.into()),
    }
    if status == 0 {
        storm.forget(index);
    }
}
