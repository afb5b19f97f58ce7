//! The guest kernel that this binary carries, and the state in which it is entered
//! (`abi::boot_info`).

use abi::boot_info::BootInfo;
use kvm_bindings::kvm_regs;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// The kernel, an ELF file; `guest-kernel` is its source. It also has a PVH entry, for others.
pub const KERNEL: &[u8] = include_bytes!(env!("GUEST_KERNEL"));

/// CR0: PG, WP, NE, ET, MP, PE.
pub const CR0: u64 = 0x8001_0033;
/// CR4: PAE, OSFXSR, OSXMMEXCPT.
pub const CR4: u64 = 0x620;
/// EFER: NXE, LMA, LME, SCE.
pub const EFER: u64 = 0xd01;

/// Page table entries: present, writable, user; and the last level's 2 MiB.
const TABLE: u64 = 0x7;
const PAGE: u64 = 0x87;
/// Bytes that one page directory maps.
const DIRECTORY_SPAN: u64 = 1 << 30;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the built-in kernel is no ELF file for this machine: {0}")]
    Elf(&'static str),
    #[error("{size} bytes of memory are too little for the built-in kernel, which needs {needs}")]
    Memory { size: u64, needs: u64 },
    #[error("the workloads of the built-in kernel take {0} bytes of command line, at most {max} fit", max = abi::boot_info::COMMAND_LINE)]
    CommandLine(usize),
    #[error("write the built-in kernel to guest memory: {0}")]
    Write(#[from] vm_memory::GuestMemoryError),
}

/// Where things go: all below 1 MiB.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    /// One page.
    pub boot_info: u64,
    /// `2 + n` pages, `n` for each GiB that is mapped: at least 4, and all memory.
    pub page_tables: u64,
}

/// Copies the kernel, its boot information and its page tables to guest memory; returns its entry.
pub fn load(memory: &GuestMemoryMmap, info: &BootInfo<'_>, places: Places) -> Result<u64, Error> {
    let (entry, end) =
        segments(|address, bytes| Ok(memory.write_slice(bytes, GuestAddress(address))?), info)?;
    debug_assert!(end <= info.low_end);
    let page = info.encode().ok_or(Error::CommandLine(info.command_line.len()))?;
    memory.write_slice(&page, GuestAddress(places.boot_info))?;
    let directories = info.high_end.max(4 << 30).div_ceil(DIRECTORY_SPAN);
    let at = |n: u64| places.page_tables + n * 0x1000;
    memory.write_obj(at(1) | TABLE, GuestAddress(at(0)))?;
    for n in 0..directories {
        memory.write_obj(at(2 + n) | TABLE, GuestAddress(at(1) + n * 8))?;
        let entries = (0..512u64).flat_map(|i| ((n * DIRECTORY_SPAN + (i << 21)) | PAGE).to_le_bytes());
        memory.write_slice(&entries.collect::<Vec<u8>>(), GuestAddress(at(2 + n)))?;
    }
    Ok(entry)
}

/// General registers of a vCPU.
pub fn registers(entry: u64, places: Places, vcpu: u8) -> kvm_regs {
    kvm_regs { rip: entry, rdi: places.boot_info, rsi: vcpu.into(), rflags: 2, ..Default::default() }
}

/// Hands over each segment's address and bytes; the entry point and the end of the last segment.
fn segments(
    mut write: impl FnMut(u64, &[u8]) -> Result<(), Error>,
    info: &BootInfo<'_>,
) -> Result<(u64, u64), Error> {
    let word =
        |at: usize| KERNEL.get(at..at + 8).and_then(|b| b.first_chunk()).map(|b| u64::from_le_bytes(*b));
    let truncated = || Error::Elf("truncated");
    if !KERNEL.starts_with(b"\x7fELF\x02\x01") {
        return Err(Error::Elf("another format"));
    }
    let entry = word(24).ok_or_else(truncated)?;
    let headers = word(32).ok_or_else(truncated)? as usize;
    let count = word(56).ok_or_else(truncated)? as u16;
    let mut last = 0;
    for at in (headers..).step_by(56).take(count.into()) {
        let field = |n: usize| word(at + 8 * n).ok_or_else(truncated);
        const PT_LOAD: u32 = 1;
        if field(0)? as u32 != PT_LOAD {
            continue;
        }
        let (offset, address, in_file, in_memory) =
            (field(1)? as usize, field(3)?, field(4)? as usize, field(5)?);
        last = last.max(address + in_memory);
        if last > info.low_end {
            return Err(Error::Memory { size: info.low_end, needs: last });
        }
        write(address, KERNEL.get(offset..offset + in_file).ok_or_else(truncated)?)?;
    }
    Ok((entry, last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::boot_info::Ring0;

    const PLACES: Places = Places { boot_info: 0x7000, page_tables: 0x9000 };

    fn info(memory: u64) -> BootInfo<'static> {
        BootInfo {
            low_end: memory,
            high_end: 0,
            tsc_khz: 1,
            vcpus: 1,
            ring0: Ring0::Native,
            ecam: 0,
            command_line: "workload=ready",
        }
    }

    #[test]
    fn it_is_loaded_and_every_page_is_user_accessible() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 32 << 20)]).unwrap();
        let entry = load(&memory, &info(32 << 20), PLACES).unwrap();
        let read = |at: u64| memory.read_obj::<u64>(GuestAddress(at)).unwrap();
        assert_ne!(read(entry), 0);
        assert_eq!(read(PLACES.boot_info), abi::boot_info::MAGIC);
        for address in [0u64, 0x123_4567, 0xfee0_0000, 0xffff_ffff] {
            let directory = read((read(PLACES.page_tables) & !0xfff) + (address >> 30) * 8);
            let page = read((directory & !0xfff) + (address >> 21 & 511) * 8);
            assert_eq!((page & !0x1f_ffff, directory & 7, page & 0x87), (address & !0x1f_ffff, TABLE, PAGE));
        }
    }

    #[test]
    fn too_little_memory_says_how_much() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
        let error = load(&memory, &info(1 << 20), PLACES).unwrap_err().to_string();
        assert!(error.starts_with("1048576 bytes of memory are too little"), "{error}");
    }
}
