//! What a device is, apart from who serves its queues and how the guest finds it.

use super::backend::QueueBackend;
use super::front::OperationCounts;

/// Type of a device (virtio 1.2 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Device ID.
    pub id: u16,
    /// In the report: `blk`, `net`.
    pub name: &'static str,
    /// PCI class, subclass and interface.
    pub class: u32,
}

impl Kind {
    pub const NET: Kind = Kind { id: 1, name: "net", class: 0x02_00_00 };
    pub const BLK: Kind = Kind { id: 2, name: "blk", class: 0x01_80_00 };
    pub const CONSOLE: Kind = Kind { id: 3, name: "console", class: 0x07_80_00 };
    pub const RNG: Kind = Kind { id: 4, name: "rng", class: 0x10_00_00 };
    pub const VSOCK: Kind = Kind { id: 19, name: "vsock", class: 0x02_80_00 };
}

/// A virtio device.
pub trait Device: Send {
    /// As the report names it: `blk.0`.
    fn name(&self) -> &str;

    /// Its type.
    fn kind(&self) -> Kind;

    /// Feature bits of its type. Those of the ring and the transport are added by others.
    fn features(&self) -> u64;

    /// The largest size of each queue, powers of two.
    fn queue_sizes(&self) -> &[u16];

    /// Its configuration space as it is now (§2.5).
    fn config(&self) -> &[u8];

    /// Brings the configuration space up to date, where another process has it; true if it has changed.
    fn refresh(&mut self) -> bool {
        false
    }

    /// The driver writes its configuration space; most devices have nothing writable.
    fn write_config(&mut self, offset: usize, data: &[u8]) {
        let _ = (offset, data);
    }

    /// The driver has agreed on these features.
    fn agreed(&mut self, features: u64) {
        let _ = features;
    }

    /// What it did, where it has operations to tell apart. Complete once its queues have stopped.
    fn operations(&self) -> Vec<OperationCounts> {
        Vec::new()
    }

    /// Who serves it.
    fn backend(&mut self) -> &mut dyn QueueBackend;
}
