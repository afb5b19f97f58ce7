//! The least that is a machine: a VM, one vCPU, 256 MiB, entered once.
#![allow(unsafe_code)]

use std::io;

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{Kvm, VcpuExit};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

const MEMORY: usize = 256 << 20;
const START: u64 = 0x1000;
/// `out 0x10, al`, which ends it.
const CODE: [u8; 2] = [0xe6, 0x10];

/// Makes it and enters it.
pub fn run() -> io::Result<()> {
    let failed = |error: kvm_ioctls::Error| io::Error::from_raw_os_error(error.errno());
    let memory =
        GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), MEMORY)]).map_err(io::Error::other)?;
    memory.write_slice(&CODE, GuestAddress(START)).map_err(io::Error::other)?;
    let vm = Kvm::new().map_err(failed)?.create_vm().map_err(failed)?;
    let host = memory.get_host_address(GuestAddress(0)).map_err(io::Error::other)?;
    let slot = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: 0,
        memory_size: MEMORY as u64,
        userspace_addr: host as u64,
    };
    // SAFETY: `memory` outlives the VM, and nothing here holds references into it.
    unsafe { vm.set_user_memory_region(slot) }.map_err(failed)?;
    let mut vcpu = vm.create_vcpu(0).map_err(failed)?;
    let mut sregs = vcpu.get_sregs().map_err(failed)?;
    (sregs.cs.base, sregs.cs.selector) = (0, 0);
    vcpu.set_sregs(&sregs).map_err(failed)?;
    let mut regs = vcpu.get_regs().map_err(failed)?;
    (regs.rip, regs.rflags) = (START, 2);
    vcpu.set_regs(&regs).map_err(failed)?;
    match vcpu.run().map_err(failed)? {
        VcpuExit::IoOut(..) => Ok(()),
        exit => Err(io::Error::other(format!("the bare machine ended otherwise: {exit:?}"))),
    }
}
