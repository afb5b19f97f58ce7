//! Reading `struct kvm_run` (KVM api.rst §5) after `KVM_RUN` returned.
//!
//! kvm-ioctls decodes it too, but drops what the ledger and the error paths need: the element size
//! of a string I/O, the sub-error of an internal error.

use kvm_bindings::{
    KVM_EXIT_FAIL_ENTRY, KVM_EXIT_HLT, KVM_EXIT_INTERNAL_ERROR, KVM_EXIT_INTR, KVM_EXIT_IO, KVM_EXIT_IO_OUT,
    KVM_EXIT_IOAPIC_EOI, KVM_EXIT_MMIO, KVM_EXIT_SHUTDOWN, KVM_EXIT_SYSTEM_EVENT, kvm_run,
};
use kvm_ioctls::VcpuFd;

use crate::kvm::exit::Exit;

/// What the last `KVM_RUN` that returned 0 wants.
pub fn decode(vcpu: &mut VcpuFd, run_size: usize) -> Exit<'_> {
    let run: &mut kvm_run = vcpu.get_kvm_run();
    match run.exit_reason {
        KVM_EXIT_IO => {
            // SAFETY: exit_reason says that `io` is the live member of the union.
            let io = unsafe { run.__bindgen_anon_1.io };
            let len = usize::from(io.size) * io.count as usize;
            let Some(offset) = usize::try_from(io.data_offset).ok().filter(|o| o + len <= run_size) else {
                return Exit::Other(KVM_EXIT_IO);
            };
            // SAFETY: `kvm_run` is the head of a shared mapping of `run_size` bytes that lives as long as
            // the vCPU fd, and offset + len lies inside; KVM touches it only within KVM_RUN, which needs
            // the same `&mut VcpuFd` that this slice borrows.
            let data = unsafe {
                std::slice::from_raw_parts_mut((run as *mut kvm_run).cast::<u8>().add(offset), len)
            };
            let write = u32::from(io.direction) == KVM_EXIT_IO_OUT;
            Exit::Pio { port: io.port, size: io.size, write, data }
        }
        KVM_EXIT_MMIO => {
            // SAFETY: exit_reason says that `mmio` is the live member of the union.
            let mmio = unsafe { &mut run.__bindgen_anon_1.mmio };
            let len = (mmio.len as usize).min(mmio.data.len());
            Exit::Mmio { address: mmio.phys_addr, write: mmio.is_write != 0, data: &mut mmio.data[..len] }
        }
        KVM_EXIT_HLT => Exit::Hlt,
        KVM_EXIT_INTR => Exit::Interrupted,
        KVM_EXIT_SHUTDOWN => Exit::Shutdown,
        KVM_EXIT_IOAPIC_EOI => {
            // SAFETY: exit_reason says that `eoi` is the live member of the union.
            Exit::IoapicEoi(unsafe { run.__bindgen_anon_1.eoi.vector })
        }
        KVM_EXIT_SYSTEM_EVENT => {
            // SAFETY: exit_reason says that `system_event` is the live member of the union.
            Exit::SystemEvent(unsafe { run.__bindgen_anon_1.system_event.type_ })
        }
        KVM_EXIT_INTERNAL_ERROR => {
            // SAFETY: exit_reason says that `internal` is the live member of the union.
            let internal = unsafe { run.__bindgen_anon_1.internal };
            let used = (internal.ndata as usize).min(internal.data.len());
            Exit::InternalError { suberror: internal.suberror, data: internal.data[..used].to_vec() }
        }
        KVM_EXIT_FAIL_ENTRY => {
            // SAFETY: exit_reason says that `fail_entry` is the live member of the union.
            let fail = unsafe { run.__bindgen_anon_1.fail_entry };
            Exit::FailEntry { reason: fail.hardware_entry_failure_reason, cpu: fail.cpu }
        }
        other => Exit::Other(other),
    }
}
