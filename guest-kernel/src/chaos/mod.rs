//! Storms of all that a hostile guest can do to its machine, short of what would be its own end.
//!
//! Every deed is drawn from the seed, so that a storm can be had again; each CPU draws its own. What devices
//! may write to lies above this kernel (the arena and what is behind it), so that the kernel outlives its
//! storm and what comes after it can show that the machine has, too.
//!
//! - [`storm`]       who draws, and how often
//! - [`target`]      the devices, and how they were found
//! - [`ports`] [`mmio`] [`pci`] [`msix`] [`rings`] [`resets`] [`interrupts`] [`cpus`] [`msrs`]
//!   a deed each

mod cpus;
mod interrupts;
mod mmio;
mod msix;
mod msrs;
mod pci;
mod ports;
mod resets;
mod rings;
mod storm;
mod target;

/// A storm that a fault has ended leaves each CPU's APIC and the serial port as it had them: in order again.
pub use {interrupts::calm as calm_cpu, ports::calm as calm_ports};

pub use storm::run;
