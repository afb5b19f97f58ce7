//! The least that is a machine: a VM, one vCPU, 256 MiB, entered once.

use std::io;
use std::time::Instant;

use bench::sys;
use kvm_ioctls::{Kvm, VcpuExit};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

const MEMORY: usize = 256 << 20;
const START: u64 = 0x1000;
/// `out 0x10, al`, which ends it.
const CODE: [u8; 2] = [0xe6, 0x10];

/// Makes it, enters it, and prints the microseconds since exec until it was back: as `vmm` counts them,
/// the CPU time until `main` and all time from then on.
pub fn run() -> io::Result<()> {
    let (main, before) = (Instant::now(), sys::cpu_time()?);
    let back = enter()?;
    println!("{}", (before + (back - main)).as_micros());
    Ok(())
}

/// When it was back: before anything is taken down again.
fn enter() -> io::Result<Instant> {
    let failed = |error: kvm_ioctls::Error| io::Error::from_raw_os_error(error.errno());
    let memory =
        GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), MEMORY)]).map_err(io::Error::other)?;
    memory.write_slice(&CODE, GuestAddress(START)).map_err(io::Error::other)?;
    let vm = Kvm::new().map_err(failed)?.create_vm().map_err(failed)?;
    sys::give(&vm, memory)?;
    let mut vcpu = vm.create_vcpu(0).map_err(failed)?;
    let mut sregs = vcpu.get_sregs().map_err(failed)?;
    (sregs.cs.base, sregs.cs.selector) = (0, 0);
    vcpu.set_sregs(&sregs).map_err(failed)?;
    let mut regs = vcpu.get_regs().map_err(failed)?;
    (regs.rip, regs.rflags) = (START, 2);
    vcpu.set_regs(&regs).map_err(failed)?;
    match vcpu.run().map_err(failed)? {
        VcpuExit::IoOut(..) => Ok(Instant::now()),
        exit => Err(io::Error::other(format!("the bare machine ended otherwise: {exit:?}"))),
    }
}
