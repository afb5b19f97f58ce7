//! A split virtqueue, device side (virtio 1.2 §2.7).
//!
//! The guest owns this memory while we read it, so nothing read here is trusted and nothing is read
//! twice: each bad shape is a [`RingError`], upon which the device needs a reset. Written for this
//! crate because an iterator that ends early on a bad chain (as virtio-queue's does) can't be told
//! from one that ends well, and because parts that are resolved once cost no lookup per descriptor.

use std::sync::atomic::{Ordering, fence};

use vm_memory::{Bytes, GuestAddress};

use super::chain::Chain;
use crate::sys::Memory;
use crate::sys::window::Window;

/// Descriptor flags (§2.7.5).
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
/// `avail.flags`: the driver wants no interrupts (§2.7.6).
const NO_INTERRUPT: u16 = 1;
/// `used.flags`: the device wants no kicks (§2.7.8).
const NO_NOTIFY: u16 = 1;
const DESCRIPTOR: usize = 16;

/// Where a queue lies and how long it is, as the driver set it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    pub size: u16,
    /// Guest addresses of the descriptor table, the driver area and the device area.
    pub descriptors: u64,
    pub available: u64,
    pub used: u64,
}

impl Layout {
    /// Descriptor table, available ring and used ring, each all in guest memory.
    pub fn resolve(&self, memory: &Memory) -> Result<[Window; 3], RingError> {
        if !self.size.is_power_of_two() || self.size > 32768 {
            return Err(RingError::Size(self.size));
        }
        let window = |name, address, len, align| match address {
            // Page 0 is no place for a ring: that register was never written.
            0 => Err(RingError::Unset(name)),
            _ => Window::new(memory, address, len, align).ok_or(RingError::Place(name, address)),
        };
        let count = usize::from(self.size);
        Ok([
            window("descriptor table", self.descriptors, DESCRIPTOR * count, 16)?,
            window("available ring", self.available, 6 + 2 * count, 2)?,
            window("used ring", self.used, 6 + 8 * count, 4)?,
        ])
    }
}

/// What a driver did wrong with its ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    #[error("queue size {0} is no power of two up to 32768")]
    Size(u16),
    #[error("the driver has not said where the {0} is")]
    Unset(&'static str),
    #[error("the {0} at {1:#x} is misaligned or not all in guest memory")]
    Place(&'static str, u64),
    #[error("available index {index} is more than a queue ahead of {next}, or behind it")]
    Index { index: u16, next: u16 },
    #[error("head or next descriptor {0} is beyond the table")]
    Beyond(u16),
    #[error("descriptor chain {0} is a loop, or longer than the queue")]
    TooLong(u16),
    #[error("descriptor chain {0} holds 4 GiB or more")]
    TooBig(u16),
    #[error("buffer {address:#x}, {len:#x} long, is not all in guest memory")]
    Buffer { address: u64, len: u32 },
    #[error("descriptor chain {0} has a readable descriptor after a writable one")]
    Order(u16),
    #[error("indirect table of {0} bytes is empty, broken, nested or goes on")]
    Indirect(u32),
    #[error("indirect descriptors were not negotiated")]
    IndirectUnasked,
}

/// The device's side of one ring.
pub struct Ring {
    memory: Memory,
    descriptors: Window,
    available: Window,
    used: Window,
    size: u16,
    indirect: bool,
    event_idx: bool,
    /// Free-running: the next available entry to take, the next used entry to fill.
    next_available: u16,
    next_used: u16,
    /// The available index as last loaded: entries before it need no new load.
    seen: u16,
    /// `next_used` when the driver was last asked whether it wants an interrupt.
    settled: u16,
    /// An indirect table, copied once.
    table: Vec<u8>,
}

/// A descriptor (§2.7.5).
#[derive(Clone, Copy)]
struct Descriptor {
    address: u64,
    len: u32,
    flags: u16,
    next: u16,
}

impl Descriptor {
    fn decode([address, rest]: [u64; 2]) -> Descriptor {
        let rest = u64::from_le(rest);
        Descriptor {
            address: u64::from_le(address),
            len: rest as u32,
            flags: (rest >> 32) as u16,
            next: (rest >> 48) as u16,
        }
    }
}

impl Ring {
    /// Resolves the three parts; `indirect` and `event_idx` are as negotiated.
    pub fn new(memory: &Memory, layout: Layout, indirect: bool, event_idx: bool) -> Result<Ring, RingError> {
        let [descriptors, available, used] = layout.resolve(memory)?;
        Ok(Ring {
            descriptors,
            available,
            used,
            memory: memory.clone(),
            size: layout.size,
            indirect,
            event_idx,
            next_available: 0,
            next_used: 0,
            seen: 0,
            settled: 0,
            table: Vec::new(),
        })
    }

    /// Goes on at this entry, up to which everything has been given back.
    pub fn begin_at(&mut self, index: u16) {
        (self.next_available, self.next_used, self.seen, self.settled) = (index, index, index, index);
    }

    /// Passes over what a predecessor has taken and not given back.
    #[cfg(test)]
    pub fn skip(&mut self, count: u16) {
        self.next_available = self.next_available.wrapping_add(count);
        self.seen = self.next_available;
    }

    /// The entry that is taken next.
    pub fn next_available(&self) -> u16 {
        self.next_available
    }

    /// Entries of the ring.
    pub fn size(&self) -> u16 {
        self.size
    }

    /// True if the driver has made something available that was not taken yet.
    #[inline]
    pub fn has_work(&self) -> bool {
        self.seen != self.next_available || self.index() != self.next_available
    }

    fn index(&self) -> u16 {
        // Acquire: entries and descriptors are read after the index that publishes them.
        self.available.load(2, Ordering::Acquire)
    }

    /// Takes the next chain; `false` if there is none.
    pub fn take(&mut self, chain: &mut Chain) -> Result<bool, RingError> {
        if self.seen == self.next_available {
            let index = self.index();
            let ahead = index.wrapping_sub(self.next_available);
            if ahead > self.size {
                return Err(RingError::Index { index, next: self.next_available });
            }
            self.seen = index;
            if ahead == 0 {
                return Ok(false);
            }
        }
        let slot = usize::from(self.next_available & (self.size - 1));
        let head = self.available.load(4 + 2 * slot, Ordering::Relaxed);
        self.walk(head, chain)?;
        self.next_available = self.next_available.wrapping_add(1);
        Ok(true)
    }

    /// Takes back the last `count` takes: those chains will come again.
    pub fn untake(&mut self, count: u16) {
        self.next_available = self.next_available.wrapping_sub(count);
    }

    fn walk(&mut self, head: u16, chain: &mut Chain) -> Result<(), RingError> {
        chain.clear(head);
        let (mut index, mut taken) = (head, 0);
        loop {
            if index >= self.size {
                return Err(RingError::Beyond(index));
            }
            let descriptor = Descriptor::decode(self.descriptors.pair(DESCRIPTOR * usize::from(index)));
            if descriptor.flags & INDIRECT != 0 {
                // §2.7.5.3.1: never with NEXT, and it is a chain's last; WRITE is to be ignored.
                if descriptor.flags & NEXT != 0 {
                    return Err(RingError::Indirect(descriptor.len));
                }
                return self.walk_table(head, descriptor, taken, chain);
            }
            self.append(head, descriptor, &mut taken, chain)?;
            if descriptor.flags & NEXT == 0 {
                return Ok(());
            }
            index = descriptor.next;
        }
    }

    fn walk_table(
        &mut self,
        head: u16,
        table: Descriptor,
        mut taken: u16,
        chain: &mut Chain,
    ) -> Result<(), RingError> {
        if !self.indirect {
            return Err(RingError::IndirectUnasked);
        }
        let len = table.len as usize;
        let count = len / DESCRIPTOR;
        if len == 0 || !len.is_multiple_of(DESCRIPTOR) || count > usize::from(self.size) {
            return Err(RingError::Indirect(table.len));
        }
        let mut bytes = std::mem::take(&mut self.table);
        bytes.resize(bytes.len().max(len), 0);
        let walked = self
            .memory
            .read_slice(&mut bytes[..len], GuestAddress(table.address))
            .map_err(|_| RingError::Buffer { address: table.address, len: table.len })
            .and_then(|()| {
                let mut index = 0;
                loop {
                    let Some(raw) = bytes[..len].as_chunks::<DESCRIPTOR>().0.get(usize::from(index)) else {
                        return Err(RingError::Beyond(index));
                    };
                    let raw = u128::from_ne_bytes(*raw);
                    let descriptor = Descriptor::decode([raw as u64, (raw >> 64) as u64]);
                    if descriptor.flags & INDIRECT != 0 {
                        return Err(RingError::Indirect(table.len));
                    }
                    self.append(head, descriptor, &mut taken, chain)?;
                    if descriptor.flags & NEXT == 0 {
                        return Ok(());
                    }
                    index = descriptor.next;
                }
            });
        self.table = bytes;
        walked
    }

    fn append(&self, head: u16, d: Descriptor, taken: &mut u16, chain: &mut Chain) -> Result<(), RingError> {
        *taken += 1;
        if *taken > self.size {
            return Err(RingError::TooLong(head));
        }
        let half = match d.flags & WRITE != 0 {
            true => &mut chain.writable,
            false if chain.writable.is_empty() => &mut chain.readable,
            false => return Err(RingError::Order(head)),
        };
        if !half.push(d.address, d.len) {
            return Err(RingError::Buffer { address: d.address, len: d.len });
        }
        // §2.7.5.2: no more than 2^32 bytes in a chain; one less, so that a length fits the used ring.
        if chain.bytes() > u64::from(u32::MAX) { Err(RingError::TooBig(head)) } else { Ok(()) }
    }

    /// Gives `head` back, `written` bytes of its writable half filled, and publishes it.
    pub fn give(&mut self, head: u16, written: u32) {
        self.fill(head, written);
        self.publish();
    }

    /// The same, to be published together with what follows.
    pub fn fill(&mut self, head: u16, written: u32) {
        let slot = usize::from(self.next_used & (self.size - 1));
        self.used.put(4 + 8 * slot, [u32::from(head).to_le(), written.to_le()]);
        self.next_used = self.next_used.wrapping_add(1);
    }

    /// Shows the driver everything that was filled.
    pub fn publish(&mut self) {
        // Release: the element, and the data before it, are there when the index says so.
        self.used.store(2, self.next_used, Ordering::Release);
    }

    /// True if the driver wants an interrupt for what was given since the last call (§2.7.7.2).
    pub fn wants_interrupt(&mut self) -> bool {
        let (old, new) = (self.settled, self.next_used);
        if old == new {
            return false;
        }
        self.settled = new;
        // The index must be seen by the driver before we look whether it sleeps.
        fence(Ordering::SeqCst);
        if self.event_idx {
            let event = self.available.load(4 + 2 * usize::from(self.size), Ordering::Relaxed);
            new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
        } else {
            self.available.load(0, Ordering::Relaxed) & NO_INTERRUPT == 0
        }
    }

    /// Asks for a kick at the next available entry; returns true if one came meanwhile (§2.7.10).
    pub fn listen(&mut self) -> bool {
        if self.event_idx {
            let event = 4 + 8 * usize::from(self.size);
            self.used.store(event, self.next_available, Ordering::Relaxed);
        } else {
            self.used.store(0, 0, Ordering::Relaxed);
        }
        // The driver must see that we listen before we look for the last time.
        fence(Ordering::SeqCst);
        self.has_work()
    }

    /// Asks for no kicks. With EVENT_IDX there is nothing to write: the event lies behind already.
    pub fn hush(&mut self) {
        if !self.event_idx {
            self.used.store(0, NO_NOTIFY, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
