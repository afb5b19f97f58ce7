//! A packed ring (virtio 1.2 §2.8): descriptors that the device overwrites in place. A bit that flips
//! with every round tells whose they are.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use super::{DESCRIPTOR, ENOUGH, INDIRECT, LONGEST, NEXT, Rules, Taken, WRITE, Walk, Way, parts};
use crate::sys::peer::{Part, PeerMemory, Pieces};
use crate::virtio::ring::{Layout, RingError};

/// Descriptor flags of this layout (§2.8.1).
const AVAILABLE: u16 = 1 << 7;
const USED: u16 = 1 << 15;
/// Event suppression (§2.8.10): one word says which descriptor, the next how.
const EVENT_WHERE: usize = 0;
const EVENT_HOW: usize = 2;
const ENABLE: u16 = 0;
const DISABLE: u16 = 1;
const AT_DESCRIPTOR: u16 = 2;

/// A place in the ring: an index, and the bit of its round.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    index: u16,
    wrap: bool,
}

impl Place {
    /// As in event suppression and GET_VRING_BASE.
    fn encode(self) -> u16 {
        self.index | u16::from(self.wrap) << 15
    }

    fn decode(word: u16) -> Place {
        Place { index: word & 0x7fff, wrap: word >> 15 != 0 }
    }

    /// `count` descriptors further, at most a round.
    fn add(self, count: u16, size: u16) -> Place {
        let (index, size) = (u32::from(self.index) + u32::from(count), u32::from(size));
        match index >= size {
            true => Place { index: (index - size) as u16, wrap: !self.wrap },
            false => Place { index: index as u16, ..self },
        }
    }

    /// `count` descriptors back, at most a round.
    fn sub(self, count: u16, size: u16) -> Place {
        match self.index.checked_sub(count) {
            Some(index) => Place { index, ..self },
            None => Place { index: self.index + (size - count), wrap: !self.wrap },
        }
    }
}

pub struct Packed {
    descriptors: Part,
    /// What the driver wants to be told of.
    driver: Part,
    /// What we do.
    device: Part,
    pub(super) size: u16,
    rules: Rules,
    next_available: Place,
    next_used: Place,
    /// The flags of the first descriptor filled since the last publishing: written last, they publish
    /// all.
    held: Option<(u16, u16)>,
    /// Descriptors filled since then.
    fresh: u16,
}

/// A descriptor's address, length, id and flags.
#[inline]
fn decode(raw: u128) -> (u64, u32, u16, u16) {
    (raw as u64, (raw >> 64) as u32, (raw >> 96) as u16, (raw >> 112) as u16)
}

impl Packed {
    pub(super) fn new(
        memory: &Arc<PeerMemory>,
        layout: Layout,
        base: u32,
        rules: Rules,
    ) -> Result<Packed, RingError> {
        let size = layout.size;
        if size == 0 || size > 32768 {
            return Err(RingError::Size(size));
        }
        let [descriptors, driver, device] = parts(
            memory,
            layout,
            [
                ("descriptor ring", DESCRIPTOR * usize::from(size), 16),
                ("driver event area", 4, 4),
                ("device event area", 4, 4),
            ],
        )?;
        // Both halves of the base are the same place: nothing is in flight between batches.
        let next = Place::decode(base as u16);
        if next.index >= size {
            return Err(RingError::Beyond(next.index));
        }
        Ok(Packed {
            descriptors,
            driver,
            device,
            size,
            rules,
            next_available: next,
            next_used: next,
            held: None,
            fresh: 0,
        })
    }

    fn flags(&self, index: u16) -> u16 {
        // Acquire: the rest of the descriptor is read after the flags that publish it.
        self.descriptors.load(DESCRIPTOR * usize::from(index) + 14, Ordering::Acquire)
    }

    fn is_available(&self, place: Place) -> bool {
        let flags = self.flags(place.index);
        (flags & AVAILABLE != 0) == place.wrap && (flags & USED != 0) != place.wrap
    }

    pub fn take(
        &mut self,
        most: usize,
        pieces: &mut Pieces,
        out: &mut Vec<Taken>,
    ) -> Result<usize, RingError> {
        let begun = pieces.count();
        let wanted = if self.rules.way == Way::Receive { WRITE } else { 0 };
        let mut free = self.size - out.iter().map(|chain| chain.span).sum::<u16>().min(self.size);
        for done in 0..most {
            let place = self.next_available;
            if free == 0 || !self.is_available(place) {
                return Ok(done);
            }
            let first = pieces.count();
            let (address, len, id, flags) = decode(self.descriptors.descriptor(place.index.into()));
            let taken = if flags & (NEXT | INDIRECT | WRITE) == wanted {
                if !pieces.push(address, len) {
                    return Err(RingError::Buffer { address, len });
                }
                Taken { id, span: 1, first, len }
            } else {
                self.walk(place, free, pieces)?
            };
            out.push(taken);
            free -= taken.span;
            self.next_available = place.add(taken.span, self.size);
            if pieces.count() - begun > ENOUGH {
                return Ok(done + 1);
            }
        }
        Ok(most)
    }

    /// A chain of several descriptors, or with a table (§2.8.7: then it is the only one).
    fn walk(&self, start: Place, free: u16, pieces: &mut Pieces) -> Result<Taken, RingError> {
        let (most, first, head) = (self.size.min(LONGEST).min(free), pieces.count(), start.index);
        let mut walk = Walk { rules: self.rules, most, head, taken: 0, bytes: 0, pieces };
        let (mut place, mut span) = (start, 0);
        loop {
            let (address, len, id, flags) = decode(self.descriptors.descriptor(place.index.into()));
            span += 1;
            if flags & INDIRECT != 0 {
                if flags & NEXT != 0 || span > 1 {
                    return Err(RingError::Indirect(len));
                }
                // The table of a packed ring may be longer than what is free of the ring itself.
                walk.most = self.size.min(LONGEST);
                let table = walk.table(address, len)?;
                for raw in table.as_chunks::<DESCRIPTOR>().0 {
                    let (address, len, _, flags) = decode(u128::from_le_bytes(*raw));
                    if flags & INDIRECT != 0 {
                        return Err(RingError::Indirect(table.len() as u32));
                    }
                    walk.append(address, len, flags)?;
                }
                return Ok(Taken { id, span, first, len: walk.bytes as u32 });
            }
            walk.append(address, len, flags)?;
            if flags & NEXT == 0 {
                // §2.8.6: the id is the last one's.
                return Ok(Taken { id, span, first, len: walk.bytes as u32 });
            }
            place = place.add(1, self.size);
        }
    }

    pub fn untake(&mut self, chains: &[Taken]) {
        for chain in chains {
            self.next_available = self.next_available.sub(chain.span, self.size);
        }
    }

    #[inline]
    pub fn fill(&mut self, chain: &Taken, written: u32) {
        let Place { index, wrap } = self.next_used;
        let at = DESCRIPTOR * usize::from(index);
        self.descriptors.put_one(at + 8, written);
        self.descriptors.store(at + 12, chain.id, Ordering::Relaxed);
        let written = if self.rules.way == Way::Receive { WRITE } else { 0 };
        let flags = written | if wrap { AVAILABLE | USED } else { 0 };
        if self.held.is_none() {
            self.held = Some((index, flags));
        } else {
            // Release: a driver looks at each by itself, once it has seen the first.
            self.descriptors.store(at + 14, flags, Ordering::Release);
        }
        self.fresh += chain.span;
        self.next_used = self.next_used.add(chain.span, self.size);
    }

    pub fn publish(&mut self) -> bool {
        let Some((index, flags)) = self.held.take() else { return false };
        let fresh = std::mem::take(&mut self.fresh);
        self.descriptors.store(DESCRIPTOR * usize::from(index) + 14, flags, Ordering::Release);
        // The descriptors must be seen by the driver before we look whether it sleeps.
        fence(Ordering::SeqCst);
        match self.driver.load(EVENT_HOW, Ordering::Relaxed) & 3 {
            DISABLE => false,
            AT_DESCRIPTOR if self.rules.event_idx => {
                let event = Place::decode(self.driver.load(EVENT_WHERE, Ordering::Relaxed));
                // How far the event lies behind the next used one: within what is fresh, or not.
                let (size, next) = (i64::from(self.size), i64::from(self.next_used.index));
                let round = if event.wrap == self.next_used.wrap { 0 } else { size };
                let behind = next + round - i64::from(event.index);
                (1..=i64::from(fresh)).contains(&behind)
            }
            _ => true,
        }
    }

    pub fn listen_beyond(&mut self, had: u16, count: u16) -> bool {
        let next = self.next_available.add(had, self.size);
        if self.rules.event_idx {
            let last = next.add(count - 1, self.size);
            self.device.store(EVENT_WHERE, last.encode(), Ordering::Relaxed);
            // Release: where, before how.
            self.device.store(EVENT_HOW, AT_DESCRIPTOR, Ordering::Release);
        } else {
            self.device.store(EVENT_HOW, ENABLE, Ordering::Relaxed);
        }
        // The driver must see that we listen before we look for the last time.
        fence(Ordering::SeqCst);
        self.is_available(next)
    }

    pub fn hush(&mut self) {
        self.device.store(EVENT_HOW, DISABLE, Ordering::Relaxed);
    }

    pub fn base(&self) -> u32 {
        u32::from(self.next_available.encode()) | u32::from(self.next_used.encode()) << 16
    }
}
