//! What a PCI function is: an identity, at most two BARs, and capabilities.

use super::config::{ConfigSpace, Identity};

/// One function of the bus. A function has a BAR in memory, number 0, or none, and one of ports,
/// number 2, or none.
pub trait Function: Send {
    /// As the report names it: `blk.0`.
    fn name(&self) -> String;

    /// Who made it and what it is.
    fn identity(&self) -> Identity;

    /// Bytes of its BAR, a power of two; 0 without one.
    fn bar_size(&self) -> u64;

    /// Ports of its other BAR, a power of two; 0 without one.
    fn ports(&self) -> u16 {
        0
    }

    /// There are none left for it.
    fn deny_ports(&mut self) {}

    /// Adds its capabilities; called once.
    fn install(&mut self, config: &mut ConfigSpace) {
        let _ = config;
    }

    /// The guest stored `len` bytes at `offset` of its configuration space.
    fn configured(&mut self, config: &mut ConfigSpace, offset: usize, len: usize) {
        let _ = (config, offset, len);
    }

    /// Its BAR is now here, or answers no more.
    fn moved(&mut self, base: Option<u64>) {
        let _ = base;
    }

    /// Its ports are now here, or answer no more.
    fn ports_moved(&mut self, base: Option<u16>) {
        let _ = base;
    }

    /// The register at `offset` of its BAR.
    fn register(&self, offset: u64, write: bool) -> &'static str;

    /// A load from its BAR; `data` comes in as ones.
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        let _ = (offset, data);
    }

    /// A store to its BAR.
    fn write(&mut self, offset: u64, data: &[u8]) {
        let _ = (offset, data);
    }

    /// A store to its port `offset`. Loads are of ones.
    fn write_port(&mut self, offset: u16) {
        let _ = offset;
    }

    /// What it counts, for the report.
    fn counts(&mut self) -> Option<crate::virtio::front::DeviceCounts> {
        None
    }

    /// Stops what it does in the background: the machine ends.
    fn quiesce(&mut self) {}
}

/// Function 0 of slot 0: the host bridge that says that there is a bus.
pub struct HostBridge;

impl Function for HostBridge {
    fn name(&self) -> String {
        "host-bridge".into()
    }

    fn identity(&self) -> Identity {
        // Red Hat's host bridge for machines without a chipset (QEMU docs/specs/pci-ids).
        let (vendor, device) = (0x1b36, 0x0008);
        Identity { vendor, device, revision: 0, class: 0x06_00_00, subsystem: (0x1af4, 0x1100) }
    }

    fn bar_size(&self) -> u64 {
        0
    }

    fn register(&self, _: u64, _: bool) -> &'static str {
        "?"
    }
}
