//! What every machine needs of KVM, whatever else it is: KVM opened, a VM, the CPUID that is supported. A
//! thread fetches it while the command line is read and memory is filled, for it is half of the time from
//! exec to the first instruction: KVM allocates for the one, and asks the processor some eighty times for
//! the other, which traps where this host is a guest itself.
//!
//! The thread is over before the machine has another, and before anything of the guest runs.

use std::thread::{self, JoinHandle};

use kvm_bindings::CpuId;
use kvm_ioctls::Kvm;

use super::Error;
use crate::kvm::vm::{self, Abilities, Vm};
use crate::sys::signal;

/// KVM is open, and the rest on its way.
pub struct Early {
    pub abilities: Abilities,
    rest: JoinHandle<Result<Made, vm::Error>>,
}

/// What has come.
pub struct Made {
    pub kvm: Kvm,
    pub vm: Vm,
    pub cpuid: CpuId,
}

impl Early {
    /// Opens KVM, and has a thread do the rest.
    pub fn begin() -> Result<Early, Error> {
        let (kvm, abilities) = vm::open()?;
        let body = move || {
            // They are for the thread that will wait for them.
            signal::hold_off();
            let vm = Vm::create(&kvm)?;
            let cpuid = kvm.get_supported_cpuid(kvm_bindings::KVM_MAX_CPUID_ENTRIES);
            let cpuid = cpuid.map_err(vm::Error::doing("read the CPUID that KVM supports"))?;
            Ok(Made { kvm, vm, cpuid })
        };
        let thread = thread::Builder::new().name("early".into()).spawn(body);
        Ok(Early { abilities, rest: thread.map_err(Error::Thread)? })
    }

    /// Waits for the rest.
    pub fn finish(self) -> Result<Made, Error> {
        let rest = self.rest.join().map_err(|_| Error::Thread(std::io::ErrorKind::Other.into()))?;
        Ok(rest?)
    }
}
