//! The build of a machine, step by step, in the order in which KVM wants it.

pub mod attach;
pub mod early;
mod error;
mod interrupts;
pub mod memory;
mod pci;
mod start;

use std::sync::{Arc, Mutex};

use abi::boot_info::Mmio;
use abi::port;
use acpi_tables::Aml;
use attach::{Attached, Numbers, Opened, describe};
use devices::acpi::Power;
use devices::exit_port::ExitPort;
use devices::ioapic::Ioapic;
use devices::line::Line;
use devices::pci::conf1::{self, Conf1};
use devices::pvpanic::PvPanic;
use devices::serial::Serial;
use early::{Early, Job, Made};
use kvm_ioctls::Kvm;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

pub use error::Error;

use crate::boot::builtin::Devices;
use crate::boot::payload::{self, Payload};
use crate::boot::{acpi, cmdline::Cmdline, cpuid, layout, state};
use crate::config::console::Place;
use crate::config::{Config, Idle};
use crate::kvm::vcpu::Vcpu;
use crate::kvm::vm::{self, Abilities, Vm};
use crate::machine::memory::GuestRam;
use crate::run::vcpu::Buses;

/// The serial port's wire to the IOAPIC. Each pin below costs a boot some ten exits; pin 0 would be one
/// less, but Linux takes an interrupt of that number for none.
const SERIAL_GSI: u32 = 1;
/// The first wire of a virtio-mmio device. Linux gives no device pin 2, where PCs cascaded their PICs.
const DEVICE_GSI: u32 = 3;

/// A machine that is ready to run.
pub struct Machine {
    /// Still open when the files are out of reach.
    pub kvm: Kvm,
    pub vm: Vm,
    pub vcpus: Vec<Vcpu>,
    /// That made them.
    pub thread: early::Thread,
    pub buses: Buses,
    pub devices: Attached,
    pub serial: Option<Arc<Mutex<Serial>>>,
    pub exit_port: Arc<Mutex<ExitPort>>,
    pub applied: Applied,
    /// Last, so that it outlives the VM that maps it.
    pub ram: GuestRam,
}

/// What KVM made of the knobs.
pub struct Applied {
    pub abilities: Abilities,
    /// KVM_CAP_X86_DISABLE_EXITS bits in force.
    pub disabled_exits: u64,
    /// Why halt polling is not as asked.
    pub halt_poll: Result<(), vm::Error>,
    /// Leaf 0x4000_0001, EAX, as the guest sees it.
    pub kvm_features: u32,
    pub tsc_khz: Option<u32>,
    pub cmdline: Cmdline,
}

/// Builds the machine of `config`; its serial port, if it has one, sends to `line`. The thread that makes its
/// vCPUs then does `job`.
pub fn build(
    config: &Config,
    early: Early,
    job: Job,
    payload: Payload,
    opened: Opened,
    line: Option<Box<dyn Line>>,
) -> Result<Machine, Error> {
    let abilities = early.abilities;
    abilities.allow(config.vcpus)?;
    let serial = line.is_some();
    let wire = match opened.wires() {
        0 if serial => SERIAL_GSI + 1,
        0 => 0,
        _ => DEVICE_GSI,
    };
    let pins = wire + opened.wires();
    let with_pci = opened.on_pci();

    // The VM, and what must be set before its first vCPU. vCPUs are made while memory is filled.
    let ram = GuestRam::allocate(&config.memory, &layout::ram(config.memory.size))?;
    let (mut disabled_exits, mut halt_poll) = (0, Ok(()));
    let (vm, vcpus) = early.vm(job, |vm| {
        vm.split_irqchip(pins)?;
        disabled_exits = disable_exits(vm, config.idle, abilities)?;
        halt_poll = config.halt_poll_ns.map_or(Ok(()), |ns| vm.halt_poll(ns));
        Ok(cpuid::Shape {
            vcpus: config.vcpus,
            tsc_deadline: abilities.tsc_deadline,
            mwait: disabled_exits & u64::from(kvm_bindings::KVM_X86_DISABLE_EXITS_MWAIT) != 0,
            pv: config.pv,
        })
    })?;

    // Memory, and what is in it when the first CPU starts.
    let described = describe::devices(&opened, wire);
    let described: Vec<&dyn Aml> = described.iter().map(|device| device as &dyn Aml).collect();
    let hardware = acpi::Hardware {
        vcpus: config.vcpus,
        serial_gsi: serial.then_some(SERIAL_GSI),
        ioapic: pins > 0,
        devices: &described,
        pci: with_pci,
    };
    let rsdp = acpi::write(ram.mem(), &hardware)?;
    let loaded = payload.load(ram.mem(), &payload::Context { config, rsdp, serial, pci: with_pci })?;
    state::write_tables(ram.mem(), loaded.entry)?;

    vm.map(ram.mem())?;

    // CPUs.
    let (Made { kvm, vcpus, kvm_features }, thread) = vcpus.finish()?;
    let tsc_khz = vcpus[0].tsc_khz();
    let mmio = Mmio { base: describe::base(0), count: opened.wires(), pin: wire };
    let clock = start::Clock { tsc_khz, tsc_deadline: abilities.tsc_deadline };
    start::at_entry(&vcpus, ram.mem(), config, &loaded, Devices { pci: with_pci, mmio }, clock)?;

    // Devices.
    let mut buses = Buses::default();
    let exit_port = Arc::new(Mutex::new(ExitPort::default()));
    buses.port.attach(port::EXIT.into(), port::EXIT_LEN.into(), exit_port.clone())?;
    buses.port.attach(port::ACPI_SLEEP_CONTROL.into(), port::ACPI_LEN.into(), Arc::new(Mutex::new(Power)))?;
    buses.port.attach(port::PVPANIC.into(), 1, Arc::new(Mutex::new(PvPanic)))?;
    let pci = with_pci.then(|| pci::attach(&vm, &mut buses)).transpose()?;
    if !with_pci {
        buses.port.attach(conf1::PORT, conf1::LEN, Arc::new(Mutex::new(Conf1::default())))?;
    }
    let numbers = Numbers { wire, vector: pins };
    let devices = opened.attach(&vm, ram.mem(), pci, &mut buses.memory, numbers)?;
    if pins > 0 {
        let ioapic = Ioapic::new(pins as u8, Box::new(interrupts::Pins(vm.clone())));
        buses.memory.attach(layout::IOAPIC, layout::IOAPIC_LEN, Arc::new(Mutex::new(ioapic)))?;
    }
    let serial = line.map(|line| attach_serial(&vm, &mut buses, line)).transpose()?;

    let cmdline = loaded.cmdline;
    let applied = Applied { abilities, disabled_exits, halt_poll, kvm_features, tsc_khz, cmdline };
    Ok(Machine { kvm, vm, vcpus, thread, buses, devices, serial, exit_port, applied, ram })
}

/// `--idle=native`: as many of HLT and MWAIT as KVM lets go.
fn disable_exits(vm: &Vm, idle: Idle, abilities: Abilities) -> Result<u64, vm::Error> {
    use kvm_bindings::{KVM_X86_DISABLE_EXITS_HLT as HLT, KVM_X86_DISABLE_EXITS_MWAIT as MWAIT};
    let bits = u64::from(HLT | MWAIT) & abilities.disable_exits;
    if idle != Idle::Native || bits == 0 {
        return Ok(0);
    }
    vm.disable_exits(bits)?;
    Ok(bits)
}

fn attach_serial(vm: &Vm, buses: &mut Buses, line: Box<dyn Line>) -> Result<Arc<Mutex<Serial>>, Error> {
    let irq = EventFd::new(EFD_NONBLOCK).map_err(Error::EventFd)?;
    vm.irqfd(&irq, SERIAL_GSI)?;
    let serial = Arc::new(Mutex::new(Serial::new(irq, line)));
    buses.port.attach(port::COM1.into(), port::COM1_LEN.into(), serial.clone())?;
    Ok(serial)
}

/// Whether this machine has a serial port.
pub fn has_serial(config: &Config) -> bool {
    config.console.place != Place::None && !config.console.is_virtio()
}
