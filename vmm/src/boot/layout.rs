//! Where things are in the guest's physical address space.
//!
//! ```text
//!      0x500  GDT                              3 GiB  PCI window
//!     0x7000  boot parameters (zero page)       0xe000_0000  ECAM, one bus; then virtio-mmio
//!     0x8000  PVH start info, memory map        0xfec0_0000  IOAPIC
//!     0x9000  page tables: identity, 4 GiB      0xfee0_0000  local APICs
//!    0x20000  command line                      0xfffb_c000  KVM's own (TSS, identity map)
//!    0xe0000  ACPI tables                      4 GiB  the rest of memory
//!      1 MiB  kernel, memory up to 3 GiB
//! ```

pub const GDT: u64 = 0x500;
pub const ZERO_PAGE: u64 = 0x7000;
pub const PVH_START_INFO: u64 = 0x8000;
/// PML4, PDPT, then four page directories of 2 MiB pages.
pub const PAGE_TABLES: u64 = 0x9000;
pub const CMDLINE: u64 = 0x2_0000;
/// Linux takes 2048 bytes (COMMAND_LINE_SIZE on x86), PVH and the built-in kernel what is here.
pub const CMDLINE_MAX: usize = 0x1_0000;
/// End of conventional memory below the legacy hole.
pub const LOW_MEMORY_END: u64 = 0xa_0000;
pub const ACPI: u64 = 0xe_0000;
pub const ACPI_END: u64 = 0x10_0000;
pub const KERNEL: u64 = 0x10_0000;

/// RAM below 4 GiB ends here at the latest.
pub const HOLE_START: u64 = 0xc000_0000;
/// PCI BARs that fit below 4 GiB.
pub const PCI_MMIO_START: u64 = 0xc000_0000;
pub const PCI_MMIO_END: u64 = 0xe000_0000;
/// Ports of PCI devices: where nothing of a PC is, and the built-in kernel's ring 3 may use them.
pub const PCI_PORTS: std::ops::Range<u16> = 0x800..0xc00;
/// Enhanced configuration access, bus 0 only (PCIe 6.0 §7.2.2).
pub const ECAM: u64 = 0xe000_0000;
pub const ECAM_LEN: u64 = 0x10_0000;
/// Register pages of virtio-mmio devices.
pub const VIRTIO_MMIO: u64 = 0xe020_0000;
pub const IOAPIC: u64 = 0xfec0_0000;
pub const IOAPIC_LEN: u64 = 0x20;
/// Three pages that KVM needs on Intel CPUs without unrestricted guest (KVM_SET_TSS_ADDR).
pub const KVM_TSS: u64 = 0xfffb_d000;
/// One page, likewise (KVM_SET_IDENTITY_MAP_ADDR).
pub const KVM_IDENTITY_MAP: u64 = 0xfffb_c000;
pub const HOLE_END: u64 = 0x1_0000_0000;

/// `(guest address, bytes)` of `size` bytes of RAM: one region, or two around the hole.
pub fn ram(size: u64) -> Vec<(u64, u64)> {
    if size <= HOLE_START { vec![(0, size)] } else { vec![(0, HOLE_START), (HOLE_END, size - HOLE_START)] }
}

/// Where RAM below the hole ends.
pub fn low_end(size: u64) -> u64 {
    size.min(HOLE_START)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_goes_around_the_hole() {
        assert_eq!(ram(256 << 20), [(0, 256 << 20)]);
        assert_eq!(ram(3 << 30), [(0, 3 << 30)]);
        assert_eq!(ram(5 << 30), [(0, 3 << 30), (4 << 30, 2 << 30)]);
    }
}
