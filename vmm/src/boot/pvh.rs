//! The PVH start information (Xen's include/public/arch-x86/hvm/start_info.h).

use vm_memory::{ByteValued, Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use super::{layout, memory_map::memory_map};

/// XEN_HVM_START_MAGIC_VALUE.
const MAGIC: u32 = 0x336e_c578;

/// `(module address, bytes)` and what else a PVH kernel is told.
pub struct StartInfo {
    pub initrd: Option<(u64, u64)>,
    pub memory_size: u64,
    pub ecam: bool,
    pub rsdp: u64,
}

/// Writes start info, module list and memory map, in this order, from [`layout::PVH_START_INFO`].
pub fn write_start_info(memory: &GuestMemoryMmap, with: &StartInfo) -> Result<(), GuestMemoryError> {
    const MODULES: u64 = layout::PVH_START_INFO + 0x40;
    const MAP: u64 = layout::PVH_START_INFO + 0x80;
    let map = memory_map(with.memory_size, with.ecam);
    let modules = u64::from(with.initrd.is_some());
    // magic, version | flags, nr_modules | modlist | cmdline | rsdp | memmap | entries, reserved
    let words: [u64; 7] = [
        u64::from(MAGIC) | 1 << 32,
        modules << 32,
        MODULES * modules,
        layout::CMDLINE,
        with.rsdp,
        MAP,
        map.len() as u64,
    ];
    write_words(memory, layout::PVH_START_INFO, &words)?;
    if let Some((address, bytes)) = with.initrd {
        write_words(memory, MODULES, &[address, bytes, 0, 0])?;
    }
    for (at, (start, bytes, kind)) in (MAP..).step_by(24).zip(map) {
        write_words(memory, at, &[start, bytes, kind as u64])?;
    }
    Ok(())
}

fn write_words(memory: &GuestMemoryMmap, at: u64, words: &[u64]) -> Result<(), GuestMemoryError> {
    for (at, word) in (at..).step_by(8).zip(words) {
        memory.write_slice(word.as_slice(), GuestAddress(at))?;
    }
    Ok(())
}
