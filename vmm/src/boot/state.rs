//! What a CPU finds when it starts: descriptors, page tables, control registers.

use kvm_bindings::{kvm_regs, kvm_segment, kvm_sregs};
use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use super::{builtin, layout};

/// How the boot CPU is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// 64-bit long mode, paging on, RSI = zero page (boot.rst, "64-bit Boot Protocol").
    Linux64 { rip: u64 },
    /// 32-bit protected mode, paging off, EBX = start info (Xen docs, misc/pvh).
    Pvh { eip: u32 },
    /// As `abi::boot_info` says, every vCPU at once; where ring 0 is interpreted, the local APIC stays
    /// an xAPIC, whose page ring 3 drives without a gate.
    Builtin { rip: u64, vcpu: u8, xapic: bool },
}

/// IA32_APIC_BASE (SDM vol. 3, 11.4.4): enable, x2APIC, and this is the boot CPU.
const APIC_ENABLE: u64 = 1 << 11;
const APIC_X2: u64 = 1 << 10;
const APIC_BSP: u64 = 1 << 8;

const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;

/// Descriptors as boot.rst wants them: __BOOT_CS 0x10, __BOOT_DS 0x18; a TSS behind.
const GDT: [u64; 5] = [0, 0, CODE_64, DATA, TSS];
const CODE_64: u64 = 0x00af_9b00_0000_ffff;
const CODE_32: u64 = 0x00cf_9b00_0000_ffff;
const DATA: u64 = 0x00cf_9300_0000_ffff;
const TSS: u64 = 0x0000_8b00_0000_0067;

/// Writes the GDT and identity page tables for the first 4 GiB. The built-in kernel brings its own.
pub fn write_tables(memory: &GuestMemoryMmap, entry: Entry) -> Result<(), GuestMemoryError> {
    if let Entry::Builtin { .. } = entry {
        return Ok(());
    }
    let mut gdt = GDT;
    if let Entry::Pvh { .. } = entry {
        gdt[2] = CODE_32;
    }
    for (at, descriptor) in (layout::GDT..).step_by(8).zip(gdt) {
        memory.write_obj(descriptor, GuestAddress(at))?;
    }
    let table = |n: u64| layout::PAGE_TABLES + n * 0x1000;
    const PRESENT_WRITABLE: u64 = 3;
    const LARGE: u64 = 1 << 7;
    memory.write_obj(table(1) | PRESENT_WRITABLE, GuestAddress(table(0)))?;
    for gigabyte in 0..4 {
        memory.write_obj(table(2 + gigabyte) | PRESENT_WRITABLE, GuestAddress(table(1) + gigabyte * 8))?;
        let mut directory = [0u8; 0x1000];
        for (slot, at) in directory.chunks_exact_mut(8).zip((gigabyte << 30..).step_by(2 << 20)) {
            slot.copy_from_slice(&(at | PRESENT_WRITABLE | LARGE).to_le_bytes());
        }
        memory.write_slice(&directory, GuestAddress(table(2 + gigabyte)))?;
    }
    Ok(())
}

/// Special registers of the boot CPU, over what KVM gave a fresh vCPU.
pub fn boot_sregs(mut sregs: kvm_sregs, entry: Entry) -> kvm_sregs {
    let (code, long) = match entry {
        Entry::Pvh { .. } => (segment(CODE_32, 2), false),
        _ => (segment(CODE_64, 2), true),
    };
    let data = segment(DATA, 3);
    sregs.cs = code;
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.tr = segment(TSS, 4);
    sregs.gdt.base = layout::GDT;
    sregs.gdt.limit = size_of_val(&GDT) as u16 - 1;
    sregs.idt.base = 0;
    sregs.idt.limit = 0;
    sregs.cr0 = CR0_PE | CR0_ET;
    sregs.cr4 = 0;
    if long {
        sregs.cr0 |= CR0_PG;
        sregs.cr3 = layout::PAGE_TABLES;
        sregs.cr4 = CR4_PAE;
        sregs.efer = EFER_LME | EFER_LMA;
    }
    if let Entry::Builtin { xapic, .. } = entry {
        (sregs.cr0, sregs.cr4, sregs.efer) = (builtin::CR0, builtin::CR4, builtin::EFER);
        if xapic {
            sregs.apic_base &= !APIC_X2;
        }
    }
    sregs
}

/// The local APIC of every CPU starts in x2APIC mode, so that no access to it is ever an MMIO.
pub fn x2apic(mut sregs: kvm_sregs, boot_cpu: bool) -> kvm_sregs {
    sregs.apic_base |= APIC_ENABLE | APIC_X2;
    if boot_cpu {
        sregs.apic_base |= APIC_BSP;
    } else {
        sregs.apic_base &= !APIC_BSP;
    }
    sregs
}

/// General registers of the boot CPU.
pub fn boot_regs(entry: Entry) -> kvm_regs {
    // Bit 1 of RFLAGS always reads as one.
    let regs = kvm_regs { rflags: 2, ..Default::default() };
    match entry {
        Entry::Linux64 { rip } => kvm_regs { rip, rsi: layout::ZERO_PAGE, ..regs },
        Entry::Pvh { eip } => kvm_regs { rip: eip.into(), rbx: layout::PVH_START_INFO, ..regs },
        Entry::Builtin { rip, vcpu, .. } => {
            kvm_regs { rip, rdi: layout::ZERO_PAGE, rsi: vcpu.into(), ..regs }
        }
    }
}

/// A segment register as the CPU caches descriptor `index` of the GDT (SDM vol. 3, 3.4.5).
fn segment(descriptor: u64, index: u16) -> kvm_segment {
    let bit = |n: u32| (descriptor >> n & 1) as u8;
    let granular = bit(55) == 1;
    let limit = (descriptor & 0xffff | descriptor >> 32 & 0xf_0000) as u32;
    kvm_segment {
        base: descriptor >> 16 & 0xff_ffff | descriptor >> 32 & 0xff00_0000,
        limit: if granular { limit << 12 | 0xfff } else { limit },
        selector: index * 8,
        type_: (descriptor >> 40 & 0xf) as u8,
        present: bit(47),
        dpl: (descriptor >> 45 & 3) as u8,
        db: bit(54),
        s: bit(44),
        l: bit(53),
        g: bit(55),
        avl: bit(52),
        unusable: 0,
        padding: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_flat() {
        let code = segment(CODE_64, 2);
        assert_eq!((code.base, code.limit, code.selector), (0, u32::MAX, 0x10));
        assert_eq!((code.type_, code.s, code.l, code.db, code.present), (0xb, 1, 1, 0, 1));
        let tss = segment(TSS, 4);
        assert_eq!((tss.limit, tss.type_, tss.s), (0x67, 0xb, 0));
    }

    #[test]
    fn four_gigabytes_are_mapped_one_to_one() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x10_0000)]).unwrap();
        write_tables(&memory, Entry::Linux64 { rip: 0 }).unwrap();
        let read = |at: u64| memory.read_obj::<u64>(GuestAddress(at)).unwrap();
        for address in [0u64, 0x123_4567, 0xfee0_0000, 0xffff_ffff] {
            let directory = read((read(layout::PAGE_TABLES) & !0xfff) + (address >> 30) * 8) & !0xfff;
            let page = read(directory + (address >> 21 & 511) * 8);
            assert_eq!(page & !0x1f_ffff, address & !0x1f_ffff);
        }
    }
}
