//! What a machine needs of KVM: KVM opened, a VM, its vCPUs. A thread makes it while the command line is read
//! and memory is filled, for it is half of the time from exec to the first instruction: KVM allocates for the
//! one, and for the CPUID that it supports it asks the processor some eighty times, which traps where this
//! host is a guest itself.
//!
//! The thread is over before anything of the guest runs.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use kvm_ioctls::Kvm;

use super::Error;
use crate::boot::cpuid::{self, Shape};
use crate::kvm::vcpu::Vcpu;
use crate::kvm::vm::{self, Abilities, Vm};
use crate::sys::signal;

/// KVM is open, and the rest on its way.
pub struct Early {
    pub abilities: Abilities,
    vm: Receiver<Vm>,
    shape: Sender<Shape>,
    vcpus: Vcpus,
}

/// What has come.
pub struct Made {
    pub kvm: Kvm,
    pub vcpus: Vec<Vcpu>,
    /// Leaf 0x4000_0001, EAX, as the guest sees it.
    pub kvm_features: u32,
}

impl Early {
    /// Opens KVM, and has a thread do the rest.
    pub fn begin() -> Result<Early, Error> {
        let (kvm, abilities) = vm::open()?;
        let (send_vm, vm) = mpsc::channel();
        let (shape, wanted) = mpsc::channel();
        let (send, made) = mpsc::channel();
        let body = move || _ = send.send(make(kvm, &send_vm, &wanted));
        let thread = thread::Builder::new().name("early".into()).spawn(body).map_err(Error::Thread)?;
        Ok(Early { abilities, vm, shape, vcpus: Vcpus { made, thread } })
    }

    /// The VM, which `prepare` makes ready for its first vCPU; from then on its vCPUs are on their way, in the
    /// shape that `prepare` answers.
    pub fn vm(self, prepare: impl FnOnce(&Vm) -> Result<Shape, vm::Error>) -> Result<(Vm, Vcpus), Error> {
        let Ok(vm) = self.vm.recv() else {
            return Err(self.vcpus.finish().err().unwrap_or_else(gone));
        };
        // Nobody listens if the thread has failed, which is told where its vCPUs are wanted.
        let _ = self.shape.send(prepare(&vm)?);
        Ok((vm, self.vcpus))
    }
}

/// vCPUs on their way.
pub struct Vcpus {
    made: Receiver<Result<Made, vm::Error>>,
    thread: JoinHandle<()>,
}

/// The thread, which has nothing more to do.
pub struct Done(JoinHandle<()>);

impl Done {
    /// Waits until there is no such thread: before anything of the guest runs, for it is in no sandbox.
    pub fn gone(self) {
        // It has done what it was to do, so that nothing can be wrong with it.
        let _ = self.0.join();
    }
}

impl Vcpus {
    /// Waits for them, but not for the end of the thread, which takes a while.
    pub fn finish(self) -> Result<(Made, Done), Error> {
        let made = self.made.recv().map_err(|_| gone())??;
        Ok((made, Done(self.thread)))
    }
}

fn gone() -> Error {
    Error::Thread(io::Error::other("it ended at once"))
}

/// The thread.
fn make(kvm: Kvm, vm: &Sender<Vm>, wanted: &Receiver<Shape>) -> Result<Made, vm::Error> {
    // They are for the thread that will wait for them.
    signal::hold_off();
    let made = Vm::create(&kvm)?;
    // Nobody waits for a machine that is not built.
    let _ = vm.send(made.clone());
    let supported = kvm.get_supported_cpuid(kvm_bindings::KVM_MAX_CPUID_ENTRIES);
    let supported = supported.map_err(vm::Error::doing("read the CPUID that KVM supports"))?;
    let Ok(shape) = wanted.recv() else { return Ok(Made { kvm, vcpus: Vec::new(), kvm_features: 0 }) };
    let mut leaves = cpuid::shape(&supported, &shape);
    let mut vcpus = Vec::with_capacity(shape.vcpus.into());
    for id in 0..shape.vcpus {
        cpuid::number(&mut leaves, id);
        vcpus.push(Vcpu::create(&made, id, &leaves)?);
    }
    Ok(Made { kvm, vcpus, kvm_features: cpuid::kvm_features(&leaves) })
}
