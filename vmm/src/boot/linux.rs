//! The Linux/x86 boot protocol's parameters (Documentation/arch/x86/{boot,zero-page}.rst).

use linux_loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use super::{layout, memory_map::memory_map};

/// What the zero page tells, beyond what the kernel file's own header says.
pub struct Parameters {
    /// From a bzImage; an ELF kernel has none.
    pub header: Option<setup_header>,
    pub cmdline_len: usize,
    /// `(address, bytes)`.
    pub initrd: Option<(u64, u64)>,
    pub memory_size: u64,
    pub ecam: bool,
    pub rsdp: u64,
}

/// "Undefined" boot loader (boot.rst, `type_of_loader`).
const LOADER_UNDEFINED: u8 = 0xff;
const BOOT_FLAG: u16 = 0xaa55;
const HDRS: u32 = 0x5372_6448;

/// Writes the zero page.
pub fn write_zero_page(memory: &GuestMemoryMmap, with: &Parameters) -> Result<(), GuestMemoryError> {
    let mut page = boot_params { hdr: with.header.unwrap_or_default(), ..Default::default() };
    page.hdr.type_of_loader = LOADER_UNDEFINED;
    page.hdr.boot_flag = BOOT_FLAG;
    page.hdr.header = HDRS;
    page.hdr.cmd_line_ptr = layout::CMDLINE as u32;
    page.hdr.cmdline_size = with.cmdline_len as u32;
    if let Some((address, bytes)) = with.initrd {
        // Always below 4 GiB and far below 4 GiB long: it lies in low memory.
        page.hdr.ramdisk_image = address as u32;
        page.hdr.ramdisk_size = bytes as u32;
    }
    page.acpi_rsdp_addr = with.rsdp;
    let map = memory_map(with.memory_size, with.ecam);
    for (slot, (addr, size, kind)) in page.e820_table.iter_mut().zip(&map) {
        *slot = boot_e820_entry { addr: *addr, size: *size, r#type: *kind as u32 };
    }
    page.e820_entries = map.len() as u8;
    memory.write_obj(page, GuestAddress(layout::ZERO_PAGE))
}
