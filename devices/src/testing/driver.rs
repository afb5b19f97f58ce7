//! A driver's side of a split ring (virtio 1.2 §2.7), honest by default.

use vm_memory::{Bytes, GuestAddress};

use crate::sys::Memory;
use crate::virtio::ring::Layout;

pub const NEXT: u16 = 1;
pub const WRITE: u16 = 2;
pub const INDIRECT: u16 = 4;

/// A ring in guest memory, and what the driver knows of it.
pub struct Driver {
    pub memory: Memory,
    pub layout: Layout,
    next_descriptor: u16,
    next_available: u16,
    last_used: u16,
    kicked: u16,
}

/// A buffer: address and length.
pub type Buffer = (u64, u32);

impl Driver {
    /// A cleared ring of `size` at `base`, which takes less than 64 KiB for sizes up to 1024.
    pub fn new(memory: &Memory, base: u64, size: u16) -> Driver {
        let layout = Layout { size, descriptors: base, available: base + 0x8000, used: base + 0xa000 };
        memory.write_slice(&[0; 0x1_0000], GuestAddress(base)).unwrap();
        Driver {
            memory: memory.clone(),
            layout,
            next_descriptor: 0,
            next_available: 0,
            last_used: 0,
            kicked: 0,
        }
    }

    fn put<T: vm_memory::ByteValued>(&self, address: u64, value: T) {
        self.memory.write_obj(value, GuestAddress(address)).unwrap();
    }

    fn get<T: vm_memory::ByteValued>(&self, address: u64) -> T {
        self.memory.read_obj(GuestAddress(address)).unwrap()
    }

    /// Writes a descriptor of the table at `table`, whatever it says.
    pub fn describe(&self, table: u64, index: u16, (address, len): Buffer, flags: u16, next: u16) {
        let at = table + 16 * u64::from(index);
        self.put(at, address);
        self.put(at + 8, len);
        self.put(at + 12, flags);
        self.put(at + 14, next);
    }

    /// Makes a head available and publishes it, whatever it is.
    pub fn offer(&mut self, head: u16) {
        let slot = self.next_available % self.layout.size;
        self.put(self.layout.available + 4 + 2 * u64::from(slot), head);
        self.next_available = self.next_available.wrapping_add(1);
        self.publish(self.next_available);
    }

    /// Publishes any available index.
    pub fn publish(&self, index: u16) {
        self.put(self.layout.available + 2, index);
    }

    /// Fills descriptors for a chain and returns its head.
    pub fn chain(&mut self, readable: &[Buffer], writable: &[Buffer]) -> u16 {
        let count = (readable.len() + writable.len()) as u16;
        let head = self.next_descriptor;
        let tagged = readable.iter().map(|&b| (b, 0)).chain(writable.iter().map(|&b| (b, WRITE)));
        for ((buffer, flag), i) in tagged.zip(1..) {
            let index = self.next_descriptor % self.layout.size;
            self.next_descriptor = (index + 1) % self.layout.size;
            let more = if i < count { NEXT } else { 0 };
            self.describe(self.layout.descriptors, index, buffer, flag | more, self.next_descriptor);
        }
        head
    }

    /// A chain by an indirect table at `table`.
    pub fn indirect(&mut self, table: u64, readable: &[Buffer], writable: &[Buffer]) -> u16 {
        let count = (readable.len() + writable.len()) as u16;
        let tagged = readable.iter().map(|&b| (b, 0)).chain(writable.iter().map(|&b| (b, WRITE)));
        for ((buffer, flag), i) in tagged.zip(0..) {
            let more = if i + 1 < count { NEXT } else { 0 };
            self.describe(table, i, buffer, flag | more, i + 1);
        }
        let head = self.next_descriptor;
        self.next_descriptor = (head + 1) % self.layout.size;
        self.describe(self.layout.descriptors, head, (table, 16 * u32::from(count)), INDIRECT, 0);
        head
    }

    /// What the device has used and was not collected yet: head and length.
    pub fn used(&mut self) -> Option<(u16, u32)> {
        if self.used_index() == self.last_used {
            return None;
        }
        let at = self.layout.used + 4 + 8 * u64::from(self.last_used % self.layout.size);
        self.last_used = self.last_used.wrapping_add(1);
        Some((self.get::<u32>(at) as u16, self.get(at + 4)))
    }

    /// How many buffers the device has used, as it says.
    pub fn used_index(&self) -> u16 {
        self.get(self.layout.used + 2)
    }

    /// EVENT_IDX: wants an interrupt once this many more buffers were used.
    pub fn wake_after(&self, more: u16) {
        let event = self.last_used.wrapping_add(more).wrapping_sub(1);
        self.put(self.layout.available + 4 + 2 * u64::from(self.layout.size), event);
    }

    /// EVENT_IDX: whether the device wants a kick for what was offered since the last call.
    pub fn kick_wanted(&mut self) -> bool {
        let event: u16 = self.get(self.layout.used + 4 + 8 * u64::from(self.layout.size));
        let (old, new) = (self.kicked, self.next_available);
        self.kicked = new;
        new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
    }

    /// `used.flags`.
    pub fn used_flags(&self) -> u16 {
        self.get(self.layout.used)
    }

    /// `avail_event`: the entry at which the device wants a kick.
    pub fn kick_wanted_at(&self) -> u16 {
        self.get(self.layout.used + 4 + 8 * u64::from(self.layout.size))
    }

    /// `avail.flags`.
    pub fn set_flags(&self, flags: u16) {
        self.put(self.layout.available, flags);
    }
}
