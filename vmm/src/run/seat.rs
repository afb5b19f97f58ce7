//! Where a thread becomes a vCPU's: on its CPU, known to the tracer, in the sandbox.

use std::sync::Arc;

use super::machine::Error;
use super::threads::Before;
use crate::config::Config;
use crate::sandbox::{Devices, Sandbox, Who};
use crate::trace;

/// A vCPU's place.
pub struct Seat {
    pub id: u8,
    cpu: Option<u16>,
    devices: Devices,
    sandbox: Sandbox,
    prepared: Option<Arc<trace::Prepared>>,
}

/// What is known of a thread that has taken its seat.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    pub before: Before,
    /// Its number as the tracer needs it, where there is one.
    pub number: Option<u32>,
}

impl Seat {
    pub fn new(config: &Config, id: u8, sandbox: &Sandbox, prepared: &Option<Arc<trace::Prepared>>) -> Seat {
        let cpu = config.pin.vcpus.iter().find(|(vcpu, _)| *vcpu == id).map(|(_, cpu)| *cpu);
        let devices = Devices::of(config);
        Seat { id, cpu, devices, sandbox: sandbox.clone(), prepared: prepared.clone() }
    }

    /// The calling thread takes it.
    pub fn take(&self, before: Before) -> Result<Taken, Error> {
        let pinned = |cpu| {
            before.pinned(cpu).map_err(|error| Error::Pin(format!("vCPU {} to CPU {cpu}", self.id), error))
        };
        let before = self.cpu.map_or(Ok(before), pinned)?;
        let number = self.prepared.as_ref().map(|prepared| prepared.thread().unwrap_or(0));
        self.sandbox.enter(Who::Vcpu(self.devices))?;
        Ok(Taken { before, number })
    }

    /// The same of a thread that was there before the sandbox.
    pub fn take_early(&self) -> Result<Taken, Error> {
        let before = Before::now();
        self.sandbox.limit_earlier()?;
        self.take(before)
    }
}
