//! Model-specific registers: those that a CPU may have, those of hypervisors, and any other number. Each has
//! its old value back at once.

use super::storm::{ARENA, Storm};
use crate::arch::wild;
use crate::virtio::registers::Shared;

/// First and number of registers (SDM vol. 4 §2.1; APM vol. 2 appendix A). Left out: the clock (0x10, 0x3b),
/// where the APIC is (0x1b), and the APIC itself (0x800), which has a deed of its own.
const KNOWN: [(u32, usize); 20] = [
    (0x00, 0x10),
    (0x17, 4),
    (0x2a, 1),
    (0x48, 2),
    (0x79, 1),
    (0x8b, 1),
    (0xc1, 8),
    (0xfe, 0x14),
    (0x174, 6),
    (0x186, 8),
    (0x198, 0x10),
    (0x1d9, 4),
    (0x200, 0x70),
    (0x277, 1),
    (0x2ff, 1),
    (0x38d, 4),
    (0x400, 0x80),
    (0xda0, 1),
    (0xc000_0081, 4),
    (0xc001_0000, 0x120),
];
/// Of hypervisors, by page: KVM's clocks and steal time, Hyper-V's.
const BY_PAGE: [u32; 8] =
    [0x11, 0x12, 0x4b56_4d00, 0x4b56_4d01, 0x4b56_4d03, 0x4b56_4d04, 0x4000_0001, 0x4000_0021];

/// One register, for two instructions.
pub fn deed(storm: &mut Storm<'_>) {
    let random = &mut storm.random;
    if random.once_in(4) {
        // A page of the arena, or beyond memory, with any flags.
        let arena = storm.arena.address() + (random.below(ARENA) as u64 & !0xfff);
        let page = if random.once_in(4) { random.any() | 1 << 50 } else { arena };
        let value = page & !0xfff | random.any() & 0xfff;
        wild::disturb(random.of(&BY_PAGE), |_| value);
        return;
    }
    let register = if random.once_in(8) {
        // One that nobody has.
        0x1000_0000 | random.any() as u32 & 0xfff_ffff
    } else {
        let (first, many) = random.of(&KNOWN);
        first + random.below(many) as u32
    };
    let (flip, value) = (1u64 << random.below(64), random.value());
    let whole = random.once_in(4);
    wild::disturb(register, |old| if whole { value } else { old ^ flip });
}
