//! Device models. A device gets guest memory and event fds, and never the hypervisor: this crate
//! compiles and is tested without `/dev/kvm`.
//!
//! - [`bus`]  address → device and register, and their names for the ledger
//! - [`msi`]  what an interrupt is, and who carries it
//! - [`ioapic`]  wires to messages

pub mod bus;
pub mod ioapic;
pub mod msi;
