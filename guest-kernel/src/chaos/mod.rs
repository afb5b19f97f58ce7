//! Storms of all that a hostile guest can do to its machine, short of what would be its own end.
//!
//! Every deed is drawn from the seed, so that a storm can be had again; each CPU draws its own. What devices
//! may write to lies above this kernel (the arena and what is behind it), so that the kernel outlives its
//! storm and what comes after it can show that the machine has, too.
//!
//! - [`random`]      the draws
//! - [`target`]      the devices, and how they were found
//! - [`ports`] [`mmio`] [`pci`] [`msix`] [`rings`] [`resets`] [`interrupts`] [`cpus`] [`msrs`]
//!   a deed each

#[cfg(target_os = "none")]
mod cpus;
#[cfg(target_os = "none")]
mod interrupts;
#[cfg(target_os = "none")]
mod mmio;
#[cfg(target_os = "none")]
mod msix;
#[cfg(target_os = "none")]
mod msrs;
#[cfg(target_os = "none")]
mod pci;
#[cfg(target_os = "none")]
mod ports;
pub mod random;
#[cfg(target_os = "none")]
mod resets;
#[cfg(target_os = "none")]
mod rings;
#[cfg(target_os = "none")]
mod storm;
#[cfg(target_os = "none")]
mod target;

/// A storm that a fault has ended leaves each CPU's APIC and the serial port as it had them: in order again.
#[cfg(target_os = "none")]
pub use {interrupts::calm as calm_cpu, ports::calm as calm_ports};

#[cfg(target_os = "none")]
pub use storm::run;
