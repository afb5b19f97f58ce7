//! virtio, from the driver's side (virtio 1.2): found by its bus, brought up, driven from ring 3.
//!
//! - [`registers`]  what is loaded and stored, and where
//! - [`pci`]        a function found by ECAM, its capabilities and MSI-X
//! - [`mmio`]       a page of registers
//! - [`device`]     from reset to DRIVER_OK, whatever the bus
//! - [`queue`]      the driver's side of a split ring
pub mod device;
pub mod mmio;
pub mod pci;
pub mod queue;
pub mod registers;
#[cfg(any(test, feature = "fuzz"))]
pub mod testing;

use workloads::platform::Unavailable;

/// Why a device can't be used: words joined by `-`, for the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused(pub &'static str);

impl From<Refused> for Unavailable {
    fn from(Refused(why): Refused) -> Unavailable {
        Unavailable(why)
    }
}
