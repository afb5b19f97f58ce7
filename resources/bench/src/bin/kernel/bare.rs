//! The least that is a machine: a VM, one vCPU, 256 MiB, entered once.
#![allow(unsafe_code)]

use std::io;
use std::time::{Duration, Instant};

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{Kvm, VcpuExit};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

const MEMORY: usize = 256 << 20;
const START: u64 = 0x1000;
/// `out 0x10, al`, which ends it.
const CODE: [u8; 2] = [0xe6, 0x10];

/// Makes it, enters it, and prints the microseconds since exec until it was back: as `vmm` counts them,
/// the CPU time until `main` and all time from then on.
pub fn run() -> io::Result<()> {
    let (main, before) = (Instant::now(), cpu_time()?);
    let back = enter()?;
    println!("{}", (before + (back - main)).as_micros());
    Ok(())
}

fn cpu_time() -> io::Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to a live variable.
    match unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) } {
        0 => Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// When it was back: before anything is taken down again.
fn enter() -> io::Result<Instant> {
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
        VcpuExit::IoOut(..) => Ok(Instant::now()),
        exit => Err(io::Error::other(format!("the bare machine ended otherwise: {exit:?}"))),
    }
}
