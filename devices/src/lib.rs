//! Device models. A device gets guest memory and event fds, and never the hypervisor: this crate
//! compiles and is tested without `/dev/kvm`.
//!
//! - [`bus`]  address → device and register, and their names for the ledger
//! - [`msi`]  what an interrupt is, and who carries it
//! - [`ioapic`]  wires to messages
//! - [`serial`]  a 16550A: the console of every guest
//! - [`exit_port`]  status, marks and records of a guest that knows this monitor
//! - [`acpi`]  power off and reset
//! - [`pvpanic`]  the guest kernel has panicked

pub mod acpi;
pub mod bus;
pub mod exit_port;
pub mod ioapic;
pub mod msi;
pub mod pvpanic;
pub mod serial;
