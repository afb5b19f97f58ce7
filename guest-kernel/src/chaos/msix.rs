//! Interrupts set anew while they fly: entries of MSI-X tables, their masks, the bits that turn them on;
//! redirections of the IOAPIC.

use super::storm::Storm;
use crate::arch::device::Io;
use crate::virtio::device::Place;
use crate::virtio::registers::Registers;

/// Where an interrupt message is stored (SDM vol. 3 §11.11.1).
const MESSAGE: u32 = 0xfee0_0000;
/// MSI-X message control: enable, function mask (PCI Local Bus 3.0 §6.8.2.3).
const CONTROL: [u16; 4] = [0, 1 << 15, 1 << 14, 3 << 14];

/// One word of one entry, or a device's switch.
pub fn deed(storm: &mut Storm<'_>) {
    let Some(target) = storm.targets.get(storm.random.below(storm.targets.len())) else { return };
    match target.place {
        Place::Mmio(at) => {
            let (interrupt, destination) = (storm.interrupt(), storm.random.any() as u8);
            at.redirect(&Io, interrupt, destination);
        }
        Place::Pci(at) if storm.random.once_in(8) => {
            if at.vectors > 0 {
                Io.store16(at.control, storm.random.of(&CONTROL));
            }
        }
        Place::Pci(at) => {
            let entry = at.table + 16 * storm.random.below(at.vectors.into());
            let word = storm.random.below(4);
            let value = match word {
                0 => MESSAGE | storm.random.any() as u32 & 0xf_fffc,
                1 if storm.random.once_in(2) => 0,
                2 => storm.interrupt(),
                // Masked or not.
                _ => storm.random.value() as u32,
            };
            Io.store32(entry + 4 * word, value);
        }
    }
}
