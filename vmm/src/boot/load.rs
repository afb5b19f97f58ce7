//! Kernel and initrd into guest memory.

use std::fs::File;
use std::path::{Path, PathBuf};

use linux_loader::bootparam::setup_header;
use linux_loader::loader::{BzImage as BzLoader, KernelLoader};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::image::{self, Image};
use super::layout;
use super::segments;
use super::state::Entry;
use super::vmlinux::{self, Unpacked};
use crate::config::Protocol;
use crate::config::input::{self, InputError};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Open(#[from] InputError),
    #[error("kernel {0} {1}")]
    Image(PathBuf, image::Error),
    #[error("kernel {0} can't be read: {1}")]
    Read(PathBuf, std::io::Error),
    #[error("kernel {0} can't be loaded: {1}")]
    Load(PathBuf, linux_loader::loader::Error),
    #[error(
        "kernel {path} needs memory up to {need} MiB, the machine has {has} MiB below the PCI hole: more --memory"
    )]
    TooLarge { path: PathBuf, need: u64, has: u64 },
    #[error(
        "kernel {0} has no PVH entry (XEN_ELFNOTE_PHYS32_ENTRY): --boot=linux, or a kernel with CONFIG_PVH"
    )]
    NoPvh(PathBuf),
    #[error("kernel {0} loads a segment at {1:#x}, below 1 MiB, where the boot tables are")]
    TooLow(PathBuf, u64),
    #[error("initrd of {need} MiB does not fit: {has} MiB are free above the kernel: more --memory")]
    InitrdTooLarge { need: u64, has: u64 },
}

/// A kernel in memory, ready to be entered.
pub struct Kernel {
    pub entry: Entry,
    /// From a bzImage.
    pub header: Option<setup_header>,
    /// First address that the kernel leaves free.
    pub end: u64,
    /// Where an initrd must end, at the latest.
    pub initrd_max: u64,
    /// The longest command line, without the NUL.
    pub cmdline_max: usize,
}

/// COMMAND_LINE_SIZE of Linux on x86, less the NUL, for kernels that don't say.
const LINUX_CMDLINE_MAX: usize = 2047;
/// The 64-bit entry of a bzImage (boot.rst, "64-bit Boot Protocol").
const ENTRY_64: u64 = 0x200;

/// Opens `path` and reads its headers: what can be refused is refused before a VM exists.
pub fn open(path: &Path) -> Result<(File, Image), Error> {
    let file = input::open("kernel", path)?;
    let image = image::identify(&file).map_err(|e| Error::Image(path.into(), e))?;
    Ok((file, image))
}

/// Loads the kernel of `path`, whose headers say `image`.
pub fn kernel(
    memory: &GuestMemoryMmap,
    memory_size: u64,
    path: &Path,
    (mut file, image): (File, Image),
    protocol: Protocol,
) -> Result<Kernel, Error> {
    let low_end = layout::low_end(memory_size);
    let fits = |end: u64| {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let error = Error::TooLarge { path: path.into(), need: mib(end), has: mib(low_end) };
        (end <= low_end).then_some(()).ok_or(error)
    };
    let failed = |e| Error::Load(path.into(), e);
    let kernel = GuestAddress(layout::KERNEL);
    match image {
        Image::BzImage(bz) => {
            if protocol == Protocol::Pvh {
                return Err(Error::NoPvh(path.into()));
            }
            let end = bz.pref_address.saturating_add(bz.init_size);
            fits(end)?;
            if let Some(unpacked) = unpack(memory, low_end, &file, &bz, protocol) {
                return Ok(Kernel {
                    entry: Entry::Linux64 { rip: unpacked.entry },
                    header: None,
                    end: end.max(unpacked.end),
                    initrd_max: low_end,
                    cmdline_max: bz.cmdline_size as usize,
                });
            }
            let loaded = BzLoader::load(memory, Some(kernel), &mut file, Some(kernel)).map_err(failed)?;
            Ok(Kernel {
                entry: Entry::Linux64 { rip: layout::KERNEL + ENTRY_64 },
                header: loaded.setup_header,
                end: end.max(loaded.kernel_end),
                initrd_max: bz.initrd_max.min(low_end - 1) + 1,
                cmdline_max: bz.cmdline_size as usize,
            })
        }
        Image::Elf(elf) => {
            fits(elf.end)?;
            if let Some(low) = elf.segments.iter().map(|s| s.address).find(|at| *at < layout::KERNEL) {
                return Err(Error::TooLow(path.into(), low));
            }
            let entry = match (protocol, elf.pvh) {
                (Protocol::Pvh, None) => return Err(Error::NoPvh(path.into())),
                (Protocol::Pvh, Some(eip)) => Entry::Pvh { eip },
                (Protocol::Auto, Some(eip)) if !elf.linux => Entry::Pvh { eip },
                _ => Entry::Linux64 { rip: elf.entry },
            };
            segments::load(&file, &elf.segments, memory).map_err(|e| Error::Read(path.into(), e))?;
            Ok(Kernel {
                entry,
                header: None,
                end: elf.end,
                initrd_max: low_end,
                cmdline_max: match entry {
                    Entry::Linux64 { .. } => LINUX_CMDLINE_MAX,
                    _ => layout::CMDLINE_MAX - 1,
                },
            })
        }
    }
}

/// The kernel inside, where it is packed in a way that is unpacked here. `--boot=linux` leaves it to the
/// guest, and so does anything that is not as it should be.
fn unpack(
    memory: &GuestMemoryMmap,
    low_end: u64,
    file: &File,
    bz: &image::BzImage,
    protocol: Protocol,
) -> Option<Unpacked> {
    if protocol != Protocol::Auto {
        return None;
    }
    vmlinux::find(file, bz.payload).ok()??.unpack(file, memory, bz.pref_address, low_end).ok()
}

/// Where an initrd of `bytes` goes: as high as it may, page-aligned, away from the kernel.
pub fn initrd_address(kernel: &Kernel, bytes: u64) -> Result<u64, Error> {
    let floor = kernel.end.next_multiple_of(0x1000);
    let at = kernel.initrd_max.checked_sub(bytes).map(|at| at & !0xfff);
    at.filter(|at| *at >= floor).ok_or_else(|| {
        let has = kernel.initrd_max.saturating_sub(floor) >> 20;
        Error::InitrdTooLarge { need: bytes.div_ceil(1 << 20), has }
    })
}

/// Reads `bytes` of `file` straight into guest memory.
pub fn file(memory: &GuestMemoryMmap, at: u64, file: &mut File, bytes: u64) -> std::io::Result<()> {
    let read = memory.read_exact_volatile_from(GuestAddress(at), file, bytes as usize);
    read.map_err(|e| std::io::Error::other(e.to_string()))
}

/// Writes the command line with its NUL. The caller has checked its length.
pub fn cmdline(memory: &GuestMemoryMmap, line: &str) -> Result<(), vm_memory::GuestMemoryError> {
    memory.write_slice(line.as_bytes(), GuestAddress(layout::CMDLINE))?;
    memory.write_obj(0u8, GuestAddress(layout::CMDLINE + line.len() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_initrd_goes_high_and_never_over_the_kernel() {
        let kernel = Kernel {
            entry: Entry::Linux64 { rip: 0 },
            header: None,
            end: 0x400_0001,
            initrd_max: 0x800_0000,
            cmdline_max: 0,
        };
        assert_eq!(initrd_address(&kernel, 0x1001).unwrap(), 0x7ff_e000);
        assert_eq!(initrd_address(&kernel, 0x3ff_f000).unwrap(), 0x400_1000);
        assert!(initrd_address(&kernel, 0x3ff_f001).is_err());
        assert!(initrd_address(&kernel, u64::MAX).is_err());
    }
}
