//! What ACPI says where nobody else does: how many CPUs there are, and where PCI is configured.

use crate::boot::{LONGEST, Read, is_mapped, word};

/// What the tables say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hardware {
    /// CPUs whose local APICs are numbered from 0 on without a gap.
    pub cpus: u32,
    /// Configuration space of PCI bus 0; 0: none that is mapped.
    pub ecam: u64,
}

/// Lengths (ACPI 6.5 §5.2.5.3, §5.2.6).
const RSDP: usize = 36;
const HEADER: usize = 36;
/// Where MADT's entries begin (§5.2.12), and its entry of a local APIC.
const MADT_ENTRIES: usize = 44;
const LOCAL_APIC: u8 = 0;
const ENABLED: u64 = 1;
/// Where the first base address of MCFG is (PCI Firmware 3.3 §4.1.2).
const MCFG_BASE: usize = 44;
/// Bytes of a bus's configuration space.
const BUS: u64 = 1 << 20;
const FOUR_GIB: u64 = 4 << 30;

/// Reads the tables that the pointer at `rsdp` leads to.
pub fn read(rsdp: usize, memory: Read<'_, '_>) -> Hardware {
    let mut hardware = Hardware::default();
    if !is_mapped(rsdp) || !memory(rsdp, RSDP).starts_with(b"RSD PTR ") {
        return hardware;
    }
    let pointer = memory(rsdp, RSDP);
    let revision = pointer[15];
    // Revision 2 has pointers of 64 bits.
    let (root, width) = match revision {
        2.. if word(pointer, 24) != 0 => (word(pointer, 24), 8),
        _ => (word(pointer, 16) & 0xffff_ffff, 4),
    };
    let Some(root) = table(root, memory) else { return hardware };
    for entry in root.get(HEADER..).unwrap_or(&[]).chunks_exact(width) {
        match table(word(entry, 0), memory) {
            Some(madt) if madt.starts_with(b"APIC") => hardware.cpus = cpus(madt),
            Some(mcfg) if mcfg.starts_with(b"MCFG") => {
                hardware.ecam = Some(word(mcfg, MCFG_BASE)).filter(is_bus).unwrap_or(0);
            }
            _ => {}
        }
    }
    hardware
}

/// Whether all of a bus's configuration space is mapped.
fn is_bus(base: &u64) -> bool {
    *base < FOUR_GIB && base.is_multiple_of(BUS)
}

/// The table at `address`, as long as it says.
fn table<'a>(address: u64, memory: Read<'_, 'a>) -> Option<&'a [u8]> {
    let address = usize::try_from(address).ok().filter(|address| is_mapped(*address))?;
    let len = word(memory(address, HEADER), 4) as u32 as usize;
    (HEADER..=LONGEST).contains(&len).then(|| memory(address, len))
}

fn cpus(madt: &[u8]) -> u32 {
    let mut there = 0u64;
    let mut entries = madt.get(MADT_ENTRIES..).unwrap_or(&[]);
    while let [kind, len, ..] = *entries {
        if kind == LOCAL_APIC && len >= 8 && entries.len() >= 8 && word(entries, 4) & ENABLED != 0 {
            there |= 1u64.checked_shl(entries[3].into()).unwrap_or(0);
        }
        entries = entries.get(usize::from(len).max(2)..).unwrap_or(&[]);
    }
    there.trailing_ones()
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec;
    use std::vec::Vec;

    fn sized(signature: &[u8], body: &[u8]) -> Vec<u8> {
        let len = (HEADER + body.len()) as u32;
        let mut table = [signature, &len.to_le_bytes()].concat();
        table.resize(HEADER, 0);
        table.extend(body);
        table
    }

    /// Memory with tables that name these APICs.
    fn memory(apics: &[(u8, u8)], revision: u8) -> Vec<u8> {
        let mut memory = vec![0; 0x4000 + LONGEST];
        let mut put = |at: usize, bytes: &[u8]| memory[at..at + bytes.len()].copy_from_slice(bytes);
        put(0x100, b"RSD PTR ");
        put(0x10f, &[revision]);
        put(0x110, &0x200u32.to_le_bytes());
        put(0x118, &0x300u64.to_le_bytes());
        let pointers: [u32; 2] = [0x400, 0x800];
        put(0x200, &sized(b"RSDT", &pointers.map(u32::to_le_bytes).concat()));
        put(0x300, &sized(b"XSDT", &pointers.map(|at| u64::from(at).to_le_bytes()).concat()));
        let apics = apics.iter().flat_map(|(id, flags)| [0, 8, 0, *id, *flags, 0, 0, 0]);
        let other = [1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0];
        put(0x400, &sized(b"APIC", &[0; 8].into_iter().chain(other).chain(apics).collect::<Vec<u8>>()));
        let base = 0xb000_0000u64.to_le_bytes();
        put(0x800, &sized(b"MCFG", &[0; 8].into_iter().chain(base).chain([0; 8]).collect::<Vec<u8>>()));
        memory
    }

    fn read_from(memory: &[u8], rsdp: usize) -> Hardware {
        read(rsdp, &|at, len| memory.get(at..at + len).unwrap_or(&[0; LONGEST][..len.min(LONGEST)]))
    }

    #[test]
    fn cpus_and_pci_are_found_by_either_root() {
        for revision in [0, 2] {
            let memory = memory(&[(0, 1), (2, 1), (1, 1), (3, 0), (4, 1)], revision);
            assert_eq!(read_from(&memory, 0x100), Hardware { cpus: 3, ecam: 0xb000_0000 });
        }
    }

    #[test]
    fn tables_that_lie_say_nothing() {
        let good = memory(&[(0, 1), (200, 1)], 2);
        assert_eq!(read_from(&good, 0x100).cpus, 1);
        assert_eq!(read_from(&good, 0x108), Hardware::default());
        assert_eq!(read_from(&good, usize::MAX - 10), Hardware::default());
        for (at, bytes) in [(0x304, [0xff; 4]), (0x304, [0; 4]), (0x404, [3, 0, 0, 0]), (0x118, [0xff; 4])] {
            let mut memory = good.clone();
            memory[at..at + 4].copy_from_slice(&bytes);
            assert_eq!(read_from(&memory, 0x100).cpus, 0, "{at:#x}");
        }
        // An entry without length, at the end of the table.
        let mut memory = good.clone();
        memory[0x400 + MADT_ENTRIES + 1] = 0;
        read_from(&memory, 0x100);
    }
}
