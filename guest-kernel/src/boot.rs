//! What the monitor or the loader says about the machine.

use abi::boot_info::{BootInfo, Mmio, PAGE, Ring0, Root};

use crate::acpi;

/// First word of PVH's start information.
const PVH_MAGIC: u32 = 0x336e_c578;
/// Its memory map's type for memory.
const PVH_RAM: u32 = 1;
const FOUR_GIB: u64 = 4 << 30;
/// Most that is read at once; no table of a machine of ours is longer.
pub const LONGEST: usize = 1 << 16;

/// Reads physical memory.
pub type Read<'r, 'a> = &'r dyn Fn(usize, usize) -> &'a [u8];

/// Reads our own page or PVH's start information at `address`; `None` if it is neither.
pub fn read<'a>(address: usize, memory: Read<'_, 'a>) -> Option<BootInfo<'a>> {
    match word(memory(address, 4), 0) as u32 {
        PVH_MAGIC => Some(pvh(memory(address, 56), memory)),
        _ => BootInfo::decode(memory(address, PAGE).first_chunk()?),
    }
}

/// PVH start information, version 1 (xen/include/public/arch-x86/hvm/start_info.h). It doesn't say
/// how fast CPUs count; how many there are is left to ACPI.
fn pvh<'a>(info: &'a [u8], memory: Read<'_, 'a>) -> BootInfo<'a> {
    let (text, map) = (word(info, 24) as usize, word(info, 40) as usize);
    let entries = word(info, 48) as u32 as usize;
    let text = if is_mapped(text) { memory(text, PAGE) } else { &[] };
    let length = text.iter().position(|byte| *byte == 0).unwrap_or(0);
    let mut boot = BootInfo {
        low_end: 0,
        high_end: 0,
        tsc_khz: 0,
        vcpus: 1,
        ring0: Ring0::Native,
        apic: None,
        ecam: 0,
        mmio: Mmio::default(),
        root: Root::default(),
        command_line: core::str::from_utf8(&text[..length]).unwrap_or(""),
    };
    // The map may be long, but no loader writes more than a page of it.
    let map = if is_mapped(map) { memory(map, 24 * entries.min(PAGE / 24)) } else { &[] };
    for entry in map.chunks_exact(24) {
        let (start, len) = (word(entry, 0), word(entry, 8));
        let end = start.saturating_add(len);
        match word(entry, 16) as u32 {
            PVH_RAM if start >= FOUR_GIB => boot.high_end = boot.high_end.max(end),
            PVH_RAM => boot.low_end = boot.low_end.max(end),
            _ => {}
        }
    }
    let hardware = acpi::read(word(info, 32) as usize, memory);
    (boot.vcpus, boot.ecam) = (hardware.cpus.max(1), hardware.ecam);
    boot
}

/// Whether somebody may have left something at `address`: it is mapped, with what is read behind it.
pub fn is_mapped(address: usize) -> bool {
    address != 0 && (address as u64) < FOUR_GIB - LONGEST as u64
}

/// Eight bytes, little-endian, or as many as are there.
pub fn word(bytes: &[u8], at: usize) -> u64 {
    let there = bytes.iter().skip(at).take(8).enumerate();
    there.fold(0, |word, (i, byte)| word | u64::from(*byte) << (8 * i))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec;

    #[test]
    fn pvh_says_memory_and_command_line() {
        let mut memory = vec![0; 0x4000];
        let mut put = |at: usize, value: u64| memory[at..at + 8].copy_from_slice(&value.to_le_bytes());
        put(0x100, u64::from(PVH_MAGIC));
        put(0x100 + 24, 0x1000);
        put(0x100 + 40, 0x200);
        put(0x100 + 48, 3);
        for (i, (start, len, kind)) in
            [(0, 0x9f000, 1), (0x10_0000, 0xff0_0000, 1), (0xfee0_0000, 0x1000, 2)].into_iter().enumerate()
        {
            put(0x200 + 24 * i, start);
            put(0x208 + 24 * i, len);
            put(0x210 + 24 * i, kind);
        }
        memory[0x1000..0x100e].copy_from_slice(b"workload=ready");
        let boot = read(0x100, &|at, len| &memory[at..at + len]).unwrap();
        assert_eq!((boot.low_end, boot.high_end), (0x1000_0000, 0));
        assert_eq!(boot.command_line, "workload=ready");
    }

    #[test]
    fn our_page_is_read_and_anything_else_refused() {
        let info = BootInfo {
            low_end: 1 << 28,
            high_end: 0,
            tsc_khz: 1,
            vcpus: 2,
            ring0: Ring0::Interpreted,
            apic: None,
            ecam: 0,
            mmio: Mmio::default(),
            root: Root::default(),
            command_line: "x",
        };
        let page = info.encode().unwrap();
        assert_eq!(read(0, &|_, len| &page[..len]), Some(info));
        let noise = [7; PAGE];
        assert_eq!(read(0, &|_, len| &noise[..len]), None);
    }
}
