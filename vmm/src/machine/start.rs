//! Where each vCPU begins.

use vm_memory::GuestMemoryMmap;

use super::Error;
use crate::boot::builtin::{self, Devices, Told};
use crate::boot::payload::{self, Loaded};
use crate::boot::state::Entry;
use crate::config::Config;
use crate::kvm::class::Class;
use crate::kvm::vcpu::Vcpu;

/// Sets the vCPUs up for what was loaded: the first alone, or all of them for the built-in kernel,
/// which is told about its machine here, where the time stamp counter's frequency is known.
pub fn at_entry(
    vcpus: &[Vcpu],
    memory: &GuestMemoryMmap,
    config: &Config,
    loaded: &Loaded,
    devices: Devices,
) -> Result<(), Error> {
    let Entry::Builtin { rip, .. } = loaded.entry else {
        return Ok(vcpus[0].set_entry(loaded.entry)?);
    };
    let interpreted = Class::detect() == Class::Pvm;
    let tsc_khz = vcpus[0].tsc_khz().unwrap_or(0);
    let command_line = &loaded.cmdline.line();
    builtin::tell(memory, config, Told { tsc_khz, interpreted, devices, root: loaded.root, command_line })
        .map_err(payload::Error::from)?;
    for vcpu in vcpus {
        vcpu.set_entry(Entry::Builtin { rip, vcpu: vcpu.id, xapic: interpreted })?;
    }
    Ok(())
}
