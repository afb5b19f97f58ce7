//! The smallest machine that runs on every kind of host: one vCPU, 128 KiB, entered in 64-bit mode.

use kvm_bindings::{
    kvm_dtable, kvm_lapic_state, kvm_msi, kvm_regs, kvm_segment, kvm_userspace_memory_region,
};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use vm_memory::mmap::MmapRegion;
use vm_memory::{Bytes, GuestAddress, GuestRegionMmap, MemoryRegionAddress};

use crate::sys::memory_slot;

use super::program;

/// The one interrupt handler.
const IRETQ: [u8; 2] = [0x48, 0xcf];

/// Its parts, dropped in this order: the memory last.
pub struct Guest {
    pub vcpu: VcpuFd,
    pub vm: VmFd,
    /// As it was created: what every armed timer starts from.
    lapic: kvm_lapic_state,
    memory: GuestRegionMmap,
}

fn failed<E: std::fmt::Display>(deed: &'static str) -> impl FnOnce(E) -> String {
    move |error| format!("{deed}: {error}")
}

impl Guest {
    /// A machine that begins with the first byte of `code`. Errors are in words.
    pub fn new(kvm: &Kvm, code: &[u8]) -> Result<Guest, String> {
        let memory = memory(code)?;
        let vm = kvm.create_vm().map_err(failed("create a VM"))?;
        vm.create_irq_chip().map_err(failed("create an irqchip"))?;
        let slot = kvm_userspace_memory_region {
            memory_size: program::MEMORY as u64,
            userspace_addr: memory.as_ptr() as u64,
            ..Default::default()
        };
        memory_slot::set(&vm, slot).map_err(failed("give it memory"))?;
        let vcpu = vm.create_vcpu(0).map_err(failed("create a vCPU"))?;
        long_mode(&vcpu).map_err(failed("enter 64-bit mode"))?;
        let lapic = vcpu.get_lapic().map_err(failed("read the local APIC"))?;
        Ok(Guest { vcpu, vm, lapic, memory })
    }

    /// Signals the one interrupt, as an MSI.
    pub fn interrupt(&self) -> Result<(), String> {
        let msi = kvm_msi { address_lo: 0xfee0_0000, data: program::VECTOR.into(), ..Default::default() };
        self.vm.signal_msi(msi).map(drop).map_err(failed("signal an interrupt"))
    }

    /// Sets the byte at `address`: [`program::FLAG`] or [`program::AWAKE`].
    pub fn raise(&self, address: u64) -> Result<(), String> {
        self.memory.write_obj(1u8, MemoryRegionAddress(address)).map_err(failed("write a flag"))
    }

    /// A fresh local APIC, enabled, its timer to fire once after `ns` (KVM's APIC bus ticks at 1 GHz;
    /// 0: never). Fresh, so that the interrupt before needs no acknowledgement.
    pub fn arm_lapic(&self, ns: u32) -> Result<(), String> {
        // Offsets: SDM volume 3, table 11-1.
        const SPURIOUS: usize = 0xf0;
        const LVT_TIMER: usize = 0x320;
        const INITIAL_COUNT: usize = 0x380;
        const CURRENT_COUNT: usize = 0x390;
        const DIVIDE: usize = 0x3e0;
        let mut lapic = self.lapic;
        let mut set = |offset: usize, value: u32| {
            for (register, byte) in lapic.regs[offset..offset + 4].iter_mut().zip(value.to_le_bytes()) {
                *register = byte as _;
            }
        };
        set(SPURIOUS, 0x1ff);
        set(LVT_TIMER, program::VECTOR.into());
        set(DIVIDE, 0b1011); // by 1
        set(INITIAL_COUNT, ns);
        set(CURRENT_COUNT, ns);
        self.vcpu.set_lapic(&lapic).map_err(failed("arm the local APIC"))
    }
}

fn memory(code: &[u8]) -> Result<GuestRegionMmap, String> {
    let mapping = MmapRegion::new(program::MEMORY).map_err(failed("map memory"))?;
    let memory = GuestRegionMmap::new(mapping, GuestAddress(0)).ok_or("map memory at address 0")?;
    let put = |address: u64, bytes: &[u8]| memory.write_slice(bytes, MemoryRegionAddress(address));
    let qword = |address: u64, value: u64| put(address, &value.to_le_bytes());
    let fill = || {
        // 2 MiB, one to one: present, writable, and the last level a large page (SDM §4.5).
        qword(program::PML4, program::PDPT | 0b11)?;
        qword(program::PDPT, program::PD | 0b11)?;
        qword(program::PD, 0x80 | 0b11)?;
        // The local APIC, uncached.
        qword(program::PD + (program::LAPIC >> 21) * 8, 0xfee0_0000 | 0x80 | 0b1_0011)?;
        // Flat 64-bit code at 8, data at 16 (SDM §3.4.5).
        qword(program::GDT + 8, 0x00af_9b00_0000_ffff)?;
        qword(program::GDT + 16, 0x00cf_9300_0000_ffff)?;
        // An interrupt gate to the handler (SDM §6.14.1): offset 15..0, selector 8, present, type 14.
        let gate = (program::HANDLER & 0xffff) | 8 << 16 | 0x8e << 40;
        qword(program::IDT + u64::from(program::VECTOR) * 16, gate)?;
        put(program::HANDLER, &IRETQ)?;
        put(program::ENTRY, code)
    };
    fill().map_err(failed("write the program"))?;
    Ok(memory)
}

fn long_mode(vcpu: &VcpuFd) -> Result<(), kvm_ioctls::Error> {
    let mut sregs = vcpu.get_sregs()?;
    let code = kvm_segment {
        limit: u32::MAX,
        selector: 8,
        type_: 11, // execute, read, accessed
        present: 1,
        s: 1,
        l: 1,
        g: 1,
        ..Default::default()
    };
    let data = kvm_segment { selector: 16, type_: 3, l: 0, db: 1, ..code };
    sregs.cs = code;
    (sregs.ds, sregs.es, sregs.ss, sregs.fs, sregs.gs) = (data, data, data, data, data);
    sregs.gdt = kvm_dtable { base: program::GDT, limit: 23, ..Default::default() };
    sregs.idt = kvm_dtable { base: program::IDT, limit: 0xfff, ..Default::default() };
    sregs.cr0 = 0x8000_0011; // PG, ET, PE
    sregs.cr3 = program::PML4;
    sregs.cr4 = 0x20; // PAE
    sregs.efer = 0x500; // LMA, LME
    vcpu.set_sregs(&sregs)?;
    vcpu.set_regs(&kvm_regs { rip: program::ENTRY, rsp: program::STACK_TOP, rflags: 2, ..Default::default() })
}
