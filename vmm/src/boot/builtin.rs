//! The guest kernel that this binary carries, and the state in which it is entered
//! (`abi::boot_info`).

use abi::boot_info::{Apic, BootInfo, COMMAND_LINE, Mmio, Ring0, Root};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::layout;
use crate::config::Config;

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
    #[error("{has} MiB of memory are too little for the built-in kernel, which needs {needs} MiB")]
    TooLittle { has: u64, needs: u64 },
    #[error("{has} MiB of memory are too much for the built-in kernel, whose page tables map {most} MiB")]
    TooMuch { has: u64, most: u64 },
    #[error("{0} bytes of workloads for the built-in kernel, at most {max} fit", max = COMMAND_LINE)]
    CommandLine(usize),
    #[error("write the built-in kernel to guest memory: {0}")]
    Write(#[from] vm_memory::GuestMemoryError),
}

/// Memory that the kernel needs beside itself, for stacks and small workloads.
const SLACK: u64 = 1 << 20;

/// Copies the kernel and its page tables to guest memory of `size` bytes, and finds room for a root of
/// `root` bytes at the end of what is below 4 GiB; returns the kernel's entry and where the root goes.
pub fn load(memory: &GuestMemoryMmap, size: u64, root: u64) -> Result<(u64, Root), Error> {
    let low_end = layout::low_end(size);
    let start = low_end.saturating_sub(root) & !0xfff;
    let entry = segments(|address, bytes, end| {
        if end + SLACK > start {
            let needs = (end + SLACK).saturating_add(root).div_ceil(1 << 20);
            return Err(Error::TooLittle { has: size >> 20, needs });
        }
        Ok(memory.write_slice(bytes, GuestAddress(address))?)
    })?;
    let directories = high_end(size).max(4 << 30).div_ceil(DIRECTORY_SPAN);
    let most = (layout::LOW_MEMORY_END - layout::PAGE_TABLES) / 0x1000 - 2;
    if directories > most {
        return Err(Error::TooMuch { has: size >> 20, most: (most * DIRECTORY_SPAN) >> 20 });
    }
    let at = |n: u64| layout::PAGE_TABLES + n * 0x1000;
    memory.write_obj(at(1) | TABLE, GuestAddress(at(0)))?;
    for n in 0..directories {
        memory.write_obj(at(2 + n) | TABLE, GuestAddress(at(1) + n * 8))?;
        let mut directory = [0; 0x1000];
        for (entry, page) in directory.chunks_exact_mut(8).zip((n * DIRECTORY_SPAN..).step_by(2 << 20)) {
            entry.copy_from_slice(&(page | PAGE).to_le_bytes());
        }
        memory.write_slice(&directory, GuestAddress(at(2 + n)))?;
    }
    Ok((entry, Root { start, len: root }))
}

/// Tells the kernel about its machine.
pub fn tell(memory: &GuestMemoryMmap, config: &Config, machine: Told<'_>) -> Result<(), Error> {
    let info = BootInfo {
        low_end: machine.root.start,
        high_end: high_end(config.memory.size),
        tsc_khz: machine.tsc_khz,
        vcpus: config.vcpus.into(),
        ring0: if machine.interpreted { Ring0::Interpreted } else { Ring0::Native },
        apic: Some(Apic { x2: !machine.interpreted, tsc_deadline: machine.tsc_deadline }),
        ecam: if machine.devices.pci { layout::ECAM } else { 0 },
        mmio: machine.devices.mmio,
        root: machine.root,
        command_line: machine.command_line,
    };
    let page = info.encode().ok_or(Error::CommandLine(info.command_line.len()))?;
    Ok(memory.write_slice(&page, GuestAddress(layout::ZERO_PAGE))?)
}

/// Where the kernel finds devices: on PCI, or as pages of registers.
#[derive(Clone, Copy, Debug)]
pub struct Devices {
    pub pci: bool,
    pub mmio: Mmio,
}

/// What the configuration doesn't say.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    pub tsc_khz: u32,
    pub interpreted: bool,
    pub tsc_deadline: bool,
    pub devices: Devices,
    pub root: Root,
    pub command_line: &'a str,
}

/// Where memory above 4 GiB ends.
fn high_end(size: u64) -> u64 {
    layout::ram(size).get(1).map_or(0, |(start, len)| start + len)
}

/// Hands over each segment's address, its bytes, and where it ends in memory; returns the entry point.
fn segments(mut write: impl FnMut(u64, &[u8], u64) -> Result<(), Error>) -> Result<u64, Error> {
    let truncated = || Error::Elf("truncated");
    let word = |at: usize| {
        let bytes = KERNEL.get(at..at + 8).and_then(|bytes| bytes.first_chunk());
        bytes.map(|bytes| u64::from_le_bytes(*bytes)).ok_or_else(truncated)
    };
    if !KERNEL.starts_with(b"\x7fELF\x02\x01") {
        return Err(Error::Elf("another format"));
    }
    let (headers, count) = (word(32)? as usize, word(56)? as u16);
    for at in (headers..).step_by(56).take(count.into()) {
        const PT_LOAD: u32 = 1;
        if word(at)? as u32 == PT_LOAD {
            let (offset, address, len) = (word(at + 8)? as usize, word(at + 24)?, word(at + 32)? as usize);
            let bytes = KERNEL.get(offset..offset + len).ok_or_else(truncated)?;
            write(address, bytes, address + word(at + 40)?)?;
        }
    }
    word(24)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_loaded_and_every_page_is_user_accessible() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 32 << 20)]).unwrap();
        let (entry, root) = load(&memory, 32 << 20, 10_240).unwrap();
        assert_eq!((root.start, root.len), ((32 << 20) - 12_288, 10_240));
        let read = |at: u64| memory.read_obj::<u64>(GuestAddress(at)).unwrap();
        assert_ne!(read(entry), 0);
        for address in [0u64, 0x123_4567, 0xfee0_0000, 0xffff_ffff] {
            let directory = read((read(layout::PAGE_TABLES) & !0xfff) + (address >> 30) * 8);
            let page = read((directory & !0xfff) + (address >> 21 & 511) * 8);
            assert_eq!((page & !0x1f_ffff, directory & 7, page & 0x87), (address & !0x1f_ffff, TABLE, PAGE));
        }
    }

    #[test]
    fn the_wrong_amount_of_memory_says_the_right_one() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 8 << 20)]).unwrap();
        let says = |size| load(&memory, size, 0).unwrap_err().to_string();
        assert!(says(1 << 20).starts_with("1 MiB of memory are too little"), "{}", says(1 << 20));
        let with_root = load(&memory, 8 << 20, 9 << 20).unwrap_err().to_string();
        assert!(with_root.starts_with("8 MiB of memory are too little"), "{with_root}");
        assert!(says(1 << 40).contains("are too much for the built-in kernel"), "{}", says(1 << 40));
    }
}
