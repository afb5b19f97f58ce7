//! One request of the guest: a chain of descriptors, as two cursors over guest memory.

use crate::sys::Memory;
use crate::sys::segments::Segments;

/// What the driver made available under one head. Reused from request to request.
pub struct Chain {
    /// The head descriptor, by which it is given back.
    pub head: u16,
    /// What the device reads: first in the chain (virtio 1.2 §2.7.4.2).
    pub readable: Segments,
    /// What the device writes.
    pub writable: Segments,
}

impl Chain {
    /// Storage for a chain in `memory`.
    pub fn new(memory: &Memory) -> Chain {
        Chain { head: 0, readable: Segments::new(memory), writable: Segments::new(memory) }
    }

    pub(super) fn clear(&mut self, head: u16) {
        self.head = head;
        self.readable.clear();
        self.writable.clear();
    }

    /// Bytes in both halves.
    pub fn bytes(&self) -> u64 {
        self.readable.len() as u64 + self.writable.len() as u64
    }
}
