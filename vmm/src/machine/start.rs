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
    tsc_khz: Option<u32>,
) -> Result<(), Error> {
    let Entry::Builtin { rip, .. } = loaded.entry else {
        for vcpu in vcpus {
            vcpu.start_at((vcpu.id == 0).then_some(loaded.entry))?;
        }
        return Ok(());
    };
    let interpreted = Class::detect() == Class::Pvm;
    let tsc_khz = tsc_khz.unwrap_or(0);
    let command_line = &loaded.cmdline.line();
    builtin::tell(memory, config, Told { tsc_khz, interpreted, devices, root: loaded.root, command_line })
        .map_err(payload::Error::from)?;
    for vcpu in vcpus {
        vcpu.start_at(Some(Entry::Builtin { rip, vcpu: vcpu.id, xapic: interpreted }))?;
    }
    Ok(())
}
