//! How a driver finds a virtio device and reaches its registers.
//!
//! - [`pci`]   a PCI function with modern capabilities and MSI-X (virtio 1.2 §4.1)
//! - [`mmio`]  a page of registers and one interrupt line (§4.2)

pub mod mmio;
pub mod pci;
