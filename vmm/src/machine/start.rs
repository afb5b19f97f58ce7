//! Where each vCPU begins.

use vm_memory::GuestMemoryMmap;

use super::Error;
use crate::boot::builtin::{self, Devices, Told};
use crate::boot::payload::{self, Loaded};
use crate::boot::state::Entry;
use crate::config::Config;
use crate::kvm::class::Class;
use crate::kvm::vcpu::Vcpu;

/// The vCPUs' time stamp counter, and whether their timers go by it.
#[derive(Clone, Copy)]
pub struct Clock {
    pub tsc_khz: Option<u32>,
    pub tsc_deadline: bool,
}

/// Sets the vCPUs up for what was loaded: the first alone, or all of them for the built-in kernel,
/// which is told about its machine here, where the time stamp counter's frequency is known.
pub fn at_entry(
    vcpus: &[Vcpu],
    memory: &GuestMemoryMmap,
    config: &Config,
    loaded: &Loaded,
    devices: Devices,
    clock: Clock,
) -> Result<(), Error> {
    let Entry::Builtin { rip, .. } = loaded.entry else {
        for vcpu in vcpus {
            vcpu.start_at((vcpu.id == 0).then_some(loaded.entry))?;
        }
        return Ok(());
    };
    let interpreted = Class::detect() == Class::Pvm;
    let Clock { tsc_khz, tsc_deadline } = clock;
    let tsc_khz = tsc_khz.unwrap_or(0);
    let (root, command_line) = (loaded.root, &loaded.cmdline.line());
    let told = Told { tsc_khz, tsc_deadline, interpreted, devices, root, command_line };
    builtin::tell(memory, config, told).map_err(payload::Error::from)?;
    for vcpu in vcpus {
        vcpu.start_at(Some(Entry::Builtin { rip, vcpu: vcpu.id, xapic: interpreted }))?;
    }
    Ok(())
}
