//! Bus 0 in the machine: configuration space that is read without an exit, and the window of BARs.

use std::sync::{Arc, Mutex};

use devices::pci::bus::{Ecam, PciBus, Ports, Window};
use kvm_bindings::{KVM_MEM_READONLY, kvm_userspace_memory_region};

use super::Error;
use crate::boot::layout;
use crate::kvm::vm::Vm;
use crate::run::vcpu::Buses;

/// Slots below are RAM's.
const ECAM_SLOT: u32 = 8;

/// Puts an empty bus into the machine.
pub fn attach(vm: &Vm, buses: &mut Buses) -> Result<Arc<Mutex<PciBus>>, Error> {
    let bus =
        PciBus::new(layout::PCI_MMIO_START..layout::PCI_MMIO_END, layout::PCI_PORTS).map_err(Error::Pci)?;
    let (host, bytes) = bus.ecam_pages();
    let slot = kvm_userspace_memory_region {
        slot: ECAM_SLOT,
        flags: KVM_MEM_READONLY,
        guest_phys_addr: layout::ECAM,
        memory_size: bytes,
        userspace_addr: host,
    };
    let bus = Arc::new(Mutex::new(bus));
    vm.set_slot(slot, bus.clone(), "map PCI configuration space".into())?;
    buses.memory.attach(layout::ECAM, bytes, Arc::new(Mutex::new(Ecam(bus.clone()))))?;
    let window = layout::PCI_MMIO_END - layout::PCI_MMIO_START;
    buses.memory.attach(layout::PCI_MMIO_START, window, Arc::new(Mutex::new(Window(bus.clone()))))?;
    let ports = layout::PCI_PORTS;
    buses.port.attach(ports.start.into(), ports.len() as u64, Arc::new(Mutex::new(Ports(bus.clone()))))?;
    Ok(bus)
}
