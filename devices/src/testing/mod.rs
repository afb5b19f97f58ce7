//! The other side, played in Rust: a guest driver and the machine around a device.
//!
//! - [`driver`]   a driver's side of a split ring, honest or not
//! - [`machine`]  memory, interrupts and doorbells without a hypervisor
//! - [`made`]     taps of the host
//! - [`toy`]      the smallest device
//! - [`conformance`]  what every backend must do, tested on each
//! - [`peer`]     a vhost-user backend
//! - [`hostile`]  one that breaks every rule, against any device
//! - [`bringup`]  a driver that brings a device up through a transport's registers

pub mod bringup;
mod conformance;
pub mod driver;
pub mod hostile;
pub mod machine;
pub mod made;
pub mod peer;
pub mod toy;
