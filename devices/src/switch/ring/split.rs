//! A split ring (virtio 1.2 §2.7). What the peer writes is read once, and none of it is trusted.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use super::{DESCRIPTOR, ENOUGH, INDIRECT, LONGEST, NEXT, Rules, Taken, WRITE, Walk, Way, parts};
use crate::sys::peer::{Part, PeerMemory, Pieces};
use crate::virtio::ring::{Layout, RingError};

/// `avail.flags`: the driver wants no interrupts (§2.7.6).
const NO_INTERRUPT: u16 = 1;
/// `used.flags`: the device wants no kicks (§2.7.8).
const NO_NOTIFY: u16 = 1;

pub struct Split {
    descriptors: Part,
    available: Part,
    used: Part,
    pub(super) size: u16,
    rules: Rules,
    /// Free-running: the next available entry to take, the next used entry to fill.
    ///
    /// The latter counts in 32 bits, of which the ring has 16: a compiler loads what is narrower with its
    /// neighbour, and such a load waits until the store before it has reached the cache, behind all stores to
    /// lines that the peer has. It was an eighth of the time of a short frame.
    next_available: u16,
    next_used: u32,
    /// The available index as last loaded.
    seen: u16,
    /// `next_used` when the driver was last asked whether it wants an interrupt.
    settled: u16,
}

/// A descriptor's address, length, flags and next.
#[inline]
fn decode(raw: u128) -> (u64, u32, u16, u16) {
    (raw as u64, (raw >> 64) as u32, (raw >> 96) as u16, (raw >> 112) as u16)
}

impl Split {
    pub(super) fn new(
        memory: &Arc<PeerMemory>,
        layout: Layout,
        base: u32,
        rules: Rules,
    ) -> Result<Split, RingError> {
        let size = layout.size;
        if !size.is_power_of_two() || size > 32768 {
            return Err(RingError::Size(size));
        }
        let count = usize::from(size);
        let [descriptors, available, used] = parts(
            memory,
            layout,
            [
                ("descriptor table", DESCRIPTOR * count, 16),
                ("available ring", 6 + 2 * count, 2),
                ("used ring", 6 + 8 * count, 4),
            ],
        )?;
        let base = base as u16;
        Ok(Split {
            descriptors,
            available,
            used,
            size,
            rules,
            next_available: base,
            next_used: base.into(),
            seen: base,
            settled: base,
        })
    }

    fn look(&mut self) -> Result<u16, RingError> {
        // Acquire: entries and descriptors are read after the index that publishes them.
        let index = self.available.load(2, Ordering::Acquire);
        let ahead = index.wrapping_sub(self.next_available);
        if ahead > self.size {
            return Err(RingError::Index { index, next: self.next_available });
        }
        self.seen = index;
        Ok(ahead)
    }

    pub fn take(
        &mut self,
        most: usize,
        pieces: &mut Pieces,
        out: &mut Vec<Taken>,
    ) -> Result<usize, RingError> {
        let mut ahead = self.seen.wrapping_sub(self.next_available);
        if usize::from(ahead) < most {
            ahead = self.look()?;
        }
        let most = usize::from(ahead).min(most);
        let begun = pieces.count();
        let flags_wanted = if self.rules.way == Way::Receive { WRITE } else { 0 };
        let mut next = self.next_available;
        for done in 1..=most {
            let slot = usize::from(next & (self.size - 1));
            let head = self.available.load(4 + 2 * slot, Ordering::Relaxed);
            if head >= self.size {
                return Err(RingError::Beyond(head));
            }
            let first = pieces.count();
            let (address, len, flags, _) = decode(self.descriptors.descriptor(head.into()));
            let len = if flags == flags_wanted {
                if !pieces.push(address, len) {
                    return Err(RingError::Buffer { address, len });
                }
                len
            } else {
                self.walk(head, pieces)?
            };
            out.push(Taken { id: head, span: 1, first, len });
            next = next.wrapping_add(1);
            if pieces.count() - begun > ENOUGH {
                self.next_available = next;
                return Ok(done);
            }
        }
        self.next_available = next;
        Ok(most)
    }

    /// A chain of several descriptors, or with a table; returns its bytes.
    fn walk(&self, head: u16, pieces: &mut Pieces) -> Result<u32, RingError> {
        let most = self.size.min(LONGEST);
        let mut walk = Walk { rules: self.rules, most, head, taken: 0, bytes: 0, pieces };
        let mut index = head;
        loop {
            if index >= self.size {
                return Err(RingError::Beyond(index));
            }
            let (address, len, flags, next) = decode(self.descriptors.descriptor(index.into()));
            if flags & INDIRECT != 0 {
                // §2.7.5.3.1: never with NEXT, and it is a chain's last; WRITE is to be ignored.
                if flags & NEXT != 0 {
                    return Err(RingError::Indirect(len));
                }
                let table = walk.table(address, len)?;
                walk_table(&mut walk, &table)?;
                break;
            }
            walk.append(address, len, flags)?;
            if flags & NEXT == 0 {
                break;
            }
            index = next;
        }
        Ok(walk.bytes as u32)
    }

    pub fn untake(&mut self, chains: &[Taken]) {
        self.next_available = self.next_available.wrapping_sub(chains.len() as u16);
    }

    #[inline]
    pub fn fill(&mut self, chain: &Taken, written: u32) {
        let slot = usize::from(self.next_used as u16 & (self.size - 1));
        self.used.put(4 + 8 * slot, [u32::from(chain.id), written]);
        self.next_used = self.next_used.wrapping_add(1);
    }

    pub fn publish(&mut self) -> bool {
        let (old, new) = (self.settled, self.next_used as u16);
        if old == new {
            return false;
        }
        self.settled = new;
        // Release: the elements, and the data before them, are there when the index says so.
        self.used.store(2, new, Ordering::Release);
        // The index must be seen by the driver before we look whether it sleeps (§2.7.7.2).
        fence(Ordering::SeqCst);
        if self.rules.event_idx {
            let event = self.available.load(4 + 2 * usize::from(self.size), Ordering::Relaxed);
            new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
        } else {
            self.available.load(0, Ordering::Relaxed) & NO_INTERRUPT == 0
        }
    }

    pub fn listen_beyond(&mut self, had: u16, count: u16) -> bool {
        if self.rules.event_idx {
            let event = 4 + 8 * usize::from(self.size);
            let last = self.next_available.wrapping_add(had + count - 1);
            self.used.store(event, last, Ordering::Relaxed);
        } else {
            self.used.store(0, 0, Ordering::Relaxed);
        }
        // The driver must see that we listen before we look for the last time (§2.7.10).
        fence(Ordering::SeqCst);
        self.available.load(2, Ordering::Acquire).wrapping_sub(self.next_available) > had
    }

    pub fn hush(&mut self) {
        // With EVENT_IDX there is nothing to write: the event lies behind already.
        if !self.rules.event_idx {
            self.used.store(0, NO_NOTIFY, Ordering::Relaxed);
        }
    }

    pub fn base(&self) -> u32 {
        self.next_available.into()
    }
}

fn walk_table(walk: &mut Walk<'_>, table: &[u8]) -> Result<(), RingError> {
    let entries = table.as_chunks::<DESCRIPTOR>().0;
    let mut index = 0;
    loop {
        let raw = entries.get(usize::from(index)).ok_or(RingError::Beyond(index))?;
        let (address, len, flags, next) = decode(u128::from_le_bytes(*raw));
        if flags & INDIRECT != 0 {
            return Err(RingError::Indirect(table.len() as u32));
        }
        walk.append(address, len, flags)?;
        if flags & NEXT == 0 {
            return Ok(());
        }
        index = next;
    }
}
