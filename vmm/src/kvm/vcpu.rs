//! A vCPU: what it is given before it runs, one entry into the guest, and what it looked like when it
//! failed.

use kvm_bindings::{
    CpuId, KVM_MP_STATE_RUNNABLE, Msrs, kvm_cpuid_entry2, kvm_mp_state, kvm_msr_entry, kvm_regs, kvm_sregs,
};
use kvm_ioctls::VcpuFd;

use super::exit::Exit;
use super::vm::{Error, Vm};
use crate::boot::state::{self, Entry};

/// IA32_MISC_ENABLE: fast strings.
const MISC_ENABLE: kvm_msr_entry = msr(0x1a0, 1);
/// IA32_MTRR_DEF_TYPE: enabled, write-back, as firmware leaves it; Linux complains otherwise.
const MTRR_DEF_TYPE: kvm_msr_entry = msr(0x2ff, 0x806);

const fn msr(index: u32, data: u64) -> kvm_msr_entry {
    kvm_msr_entry { index, data, reserved: 0 }
}

/// A virtual CPU.
pub struct Vcpu {
    pub id: u8,
    fd: VcpuFd,
    run_size: usize,
}

/// Registers of a CPU that has failed, for the user.
#[derive(Clone, Copy, Debug)]
pub struct Registers {
    pub regs: kvm_regs,
    pub sregs: kvm_sregs,
}

impl Vcpu {
    /// Creates vCPU `id` with its CPUID and MSRs.
    pub fn create(vm: &Vm, id: u8, cpuid: &[kvm_cpuid_entry2]) -> Result<Vcpu, Error> {
        let fd = vm.fd().create_vcpu(id.into()).map_err(Error::doing(format!("create vCPU {id}")))?;
        let vcpu = Vcpu { id, fd, run_size: vm.fd().run_size() };
        let list = CpuId::from_entries(cpuid).map_err(|_| Error::Lacks("room for the CPUID list"))?;
        vcpu.fd.set_cpuid2(&list).map_err(vcpu.doing("set CPUID"))?;
        // Some hosts refuse some MSRs: the guest then sees KVM's own value, which it can live with.
        let msrs =
            Msrs::from_entries(&[MISC_ENABLE, MTRR_DEF_TYPE]).map_err(|_| Error::Lacks("room for MSRs"))?;
        vcpu.fd.set_msrs(&msrs).map_err(vcpu.doing("set MSRs"))?;
        Ok(vcpu)
    }

    /// Makes this a CPU that starts at `entry`, or, with none, one that waits for INIT and SIPI. Its local APIC
    /// is in x2APIC mode unless the entry wants another.
    pub fn start_at(&self, entry: Option<Entry>) -> Result<(), Error> {
        let sregs = self.fd.get_sregs().map_err(self.doing("read registers"))?;
        let sregs = state::x2apic(sregs, self.id == 0);
        let sregs = entry.map_or(sregs, |entry| state::boot_sregs(sregs, entry));
        self.fd.set_sregs(&sregs).map_err(self.doing("set control registers"))?;
        let Some(entry) = entry else { return Ok(()) };
        // The first runs without being told.
        if self.id > 0 {
            let runnable = kvm_mp_state { mp_state: KVM_MP_STATE_RUNNABLE };
            self.fd.set_mp_state(runnable).map_err(self.doing("let it run"))?;
        }
        self.fd.set_regs(&state::boot_regs(entry)).map_err(self.doing("set registers"))
    }

    /// TSC ticks a millisecond, the guest's and this host's alike.
    pub fn tsc_khz(&self) -> Option<u32> {
        self.fd.get_tsc_khz().ok().filter(|khz| *khz > 0)
    }

    pub fn fd(&self) -> &VcpuFd {
        &self.fd
    }

    /// The running vCPU's shared page, for whoever has to make it leave the guest.
    pub fn fd_mut(&mut self) -> &mut VcpuFd {
        &mut self.fd
    }

    /// Enters the guest and comes back with why it left. EAGAIN (an AP that just got its SIPI) and
    /// EINTR are not errors: the caller enters again.
    pub fn enter(&mut self) -> Result<Exit<'_>, Error> {
        match self.fd.run() {
            Ok(_) => Ok(crate::sys::kvm_run::decode(&mut self.fd, self.run_size)),
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => Ok(Exit::Interrupted),
            Err(error) => Err(self.doing("run")(error)),
        }
    }

    /// Registers as they stand.
    pub fn registers(&self) -> Option<Registers> {
        Some(Registers { regs: self.fd.get_regs().ok()?, sregs: self.fd.get_sregs().ok()? })
    }

    fn doing(&self, deed: &str) -> impl FnOnce(vmm_sys_util::errno::Error) -> Error + use<> {
        Error::doing(format!("vCPU {}: {deed}", self.id))
    }
}

impl std::fmt::Display for Registers {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let (r, s) = (&self.regs, &self.sregs);
        writeln!(f, "rip {:016x}  rsp {:016x}  rflags {:08x}", r.rip, r.rsp, r.rflags)?;
        writeln!(f, "rax {:016x}  rbx {:016x}  rcx {:016x}  rdx {:016x}", r.rax, r.rbx, r.rcx, r.rdx)?;
        writeln!(f, "rsi {:016x}  rdi {:016x}  rbp {:016x}  r8  {:016x}", r.rsi, r.rdi, r.rbp, r.r8)?;
        writeln!(f, "r9  {:016x}  r10 {:016x}  r11 {:016x}  r12 {:016x}", r.r9, r.r10, r.r11, r.r12)?;
        writeln!(f, "r13 {:016x}  r14 {:016x}  r15 {:016x}", r.r13, r.r14, r.r15)?;
        writeln!(f, "cr0 {:08x}  cr2 {:016x}  cr3 {:016x}  cr4 {:08x}", s.cr0, s.cr2, s.cr3, s.cr4)?;
        write!(
            f,
            "efer {:x}  cs {:04x}  ss {:04x}  gdt {:x}+{:x}  idt {:x}+{:x}",
            s.efer, s.cs.selector, s.ss.selector, s.gdt.base, s.gdt.limit, s.idt.base, s.idt.limit
        )
    }
}
