//! What a machine needs of KVM: KVM opened, a VM, its vCPUs. A thread makes it while the command line is read
//! and memory is filled, for it is half of the time from exec to the first instruction: KVM allocates for the
//! one, and for the CPUID that it supports it asks the processor some eighty times, which traps where this
//! host is a guest itself.
//!
//! The thread then is the first vCPU's: to end it and to start another would be on the way, too.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{Builder, JoinHandle};

use kvm_ioctls::Kvm;

use super::Error;
use crate::boot::cpuid::{self, Shape};
use crate::kvm::vcpu::Vcpu;
use crate::kvm::vm::{self, Abilities, Vm};
use crate::sys::{affinity, signal};

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

/// What the thread does once it has made them.
pub type Job = Box<dyn FnOnce() + Send>;

impl Early {
    /// Opens KVM, and has a thread do the rest.
    pub fn begin() -> Result<Early, Error> {
        let (kvm, abilities) = vm::open()?;
        let (send_vm, vm) = mpsc::channel();
        let (shape, wanted) = mpsc::channel();
        let (send, made) = mpsc::channel();
        let (jobs, given) = mpsc::channel::<Job>();
        let body = move || {
            // Nobody waits for a machine that is not built.
            let _ = send.send(make(kvm, &send_vm, &wanted));
            drop(send_vm);
            given.into_iter().for_each(|job| job());
        };
        let thread = Builder::new().name("vcpu0".into()).spawn(body).map_err(Error::Thread)?;
        affinity::apart(&thread);
        Ok(Early { abilities, vm, shape, vcpus: Vcpus { made, thread: Thread { jobs, thread } } })
    }

    /// The VM, which `prepare` makes ready for its first vCPU; from then on its vCPUs are on their way, in the
    /// shape that `prepare` answers. Their thread does `job` next.
    pub fn vm(
        self,
        job: Job,
        prepare: impl FnOnce(&Vm) -> Result<Shape, vm::Error>,
    ) -> Result<(Vm, Vcpus), Error> {
        let Ok(vm) = self.vm.recv() else {
            return Err(self.vcpus.finish().err().unwrap_or_else(gone));
        };
        self.vcpus.thread.go_on(job);
        // Nobody listens if the thread has failed, which is told where its vCPUs are wanted.
        let _ = self.shape.send(prepare(&vm)?);
        Ok((vm, self.vcpus))
    }
}

/// vCPUs on their way.
pub struct Vcpus {
    made: Receiver<Result<Made, vm::Error>>,
    thread: Thread,
}

impl Vcpus {
    /// Waits for them.
    pub fn finish(self) -> Result<(Made, Thread), Error> {
        let made = self.made.recv().map_err(|_| gone())??;
        Ok((made, self.thread))
    }
}

/// The thread, which ends where it is not told to go on.
pub struct Thread {
    jobs: Sender<Job>,
    thread: JoinHandle<()>,
}

impl Thread {
    fn go_on(&self, job: Job) {
        // A thread that is gone is missed where its vCPUs are wanted, or what `job` was to send.
        let _ = self.jobs.send(job);
    }

    /// It does `job`, and ends.
    pub fn end_with(self, job: Job) -> JoinHandle<()> {
        self.go_on(job);
        self.thread
    }
}

fn gone() -> Error {
    Error::Thread(io::Error::other("it ended at once"))
}

/// What the thread is for at first.
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
