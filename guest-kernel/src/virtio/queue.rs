//! The driver's side of a split ring (virtio 1.2 §2.7), for requests that all have the same shape.
//!
//! A request is known by its slot. Its descriptors stay where they are and are written once, what
//! changes from request to request is only what they point to. What the device gives back is
//! believed only where it was given.

use core::sync::atomic::{Ordering, fence};

use super::Refused;
use super::registers::Shared;

/// Most entries of a ring.
pub const MOST: usize = 1024;
const DESCRIPTOR: usize = 16;
/// Descriptor flags (§2.7.5).
const NEXT: u64 = 1;
const WRITE: u64 = 2;
const INDIRECT: u64 = 4;
/// `used.flags`: the device wants no kicks (§2.7.10).
const NO_NOTIFY: u16 = 1;
/// `avail.flags`: the driver wants no interrupts (§2.7.7).
const NO_INTERRUPT: u16 = 1;
/// An event index that has fallen so far behind is moved up, before it comes round.
const BEHIND: u16 = 0x4000;

/// What the features say about rings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    pub indirect: bool,
    pub event_idx: bool,
}

/// Where in the shared memory each part of a ring begins.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Entries, a power of two.
    pub size: usize,
    /// Descriptors of a request.
    parts: usize,
    options: Options,
    available: usize,
    used: usize,
    tables: usize,
    /// Bytes of all of it.
    pub bytes: usize,
}

impl Layout {
    /// A ring of as many entries as the device allows, `most` of them at the most, for requests of
    /// `parts` descriptors.
    pub fn new(device: u16, most: usize, parts: usize, options: Options) -> Result<Layout, Refused> {
        let device = usize::from(device);
        if device == 0 {
            return Err(Refused("queue-is-absent"));
        }
        if !device.is_power_of_two() || device > 32768 {
            return Err(Refused("queue-size-is-no-power-of-two"));
        }
        let size = device.min(most).min(MOST);
        let available = DESCRIPTOR * size;
        let used = (available + 6 + 2 * size).next_multiple_of(64);
        let tables = (used + 8 + 8 * size).next_multiple_of(64);
        let bytes = tables + if options.indirect { DESCRIPTOR * parts * size } else { 0 };
        let layout = Layout { size, parts, options, available, used, tables, bytes };
        if layout.slots() == 0 { Err(Refused("queue-is-too-small")) } else { Ok(layout) }
    }

    /// Requests that fit.
    pub fn slots(&self) -> usize {
        if self.options.indirect { self.size } else { self.size / self.parts }
    }

    /// Addresses of descriptors, available ring and used ring, in memory that is at `address`.
    pub fn addresses(&self, address: u64) -> [u64; 3] {
        [0, self.available, self.used].map(|part| address + part as u64)
    }
}

/// One ring, in memory that begins with it.
pub struct Queue<M> {
    pub memory: M,
    layout: Layout,
    /// Entries made available, entries seen as used: free-running.
    available: u16,
    seen: u16,
    /// `available` at the last look whether the device wants a kick.
    told: u16,
    /// Where the device would interrupt, as last set.
    event: u16,
    under_way: [bool; MOST],
}

impl<M> Queue<M> {
    /// No ring.
    pub const fn absent(memory: M) -> Queue<M> {
        let options = Options { indirect: false, event_idx: false };
        let layout = Layout { size: 0, parts: 0, options, available: 0, used: 0, tables: 0, bytes: 0 };
        Queue { memory, layout, available: 0, seen: 0, told: 0, event: 0, under_way: [false; MOST] }
    }
}

impl<M: Shared> Queue<M> {
    /// A ring in zeroed memory, with no interrupts asked for.
    pub fn new(memory: M, layout: Layout) -> Queue<M> {
        let mut queue = Queue { layout, ..Queue::absent(memory) };
        if layout.options.indirect {
            for slot in 0..layout.size {
                let table = queue.memory.address() + queue.descriptor(slot, 0) as u64;
                let len = (DESCRIPTOR * layout.parts) as u64;
                queue.memory.store64(DESCRIPTOR * slot, table);
                queue.memory.store64(DESCRIPTOR * slot + 8, len | INDIRECT << 32);
            }
        }
        queue.hush();
        queue
    }

    /// Requests that fit.
    pub fn slots(&self) -> usize {
        self.layout.slots()
    }

    /// Where the descriptor of a request's part is.
    fn descriptor(&self, slot: usize, part: usize) -> usize {
        let first = if self.layout.options.indirect { self.layout.tables } else { 0 };
        first + DESCRIPTOR * (self.layout.parts * slot + part)
    }

    /// Says what a part of a request is; it stays so until said otherwise.
    pub fn describe(&self, slot: usize, part: usize, address: u64, len: usize, device_writes: bool) {
        self.write(slot, part, address, len, device_writes, part + 1 == self.layout.parts);
    }

    /// The same of the request's last part, before its time: what is described behind it is none of it.
    pub fn describe_last(&self, slot: usize, part: usize, address: u64, len: usize, device_writes: bool) {
        self.write(slot, part, address, len, device_writes, true);
    }

    fn write(&self, slot: usize, part: usize, address: u64, len: usize, device_writes: bool, last: bool) {
        if slot >= self.slots() || part >= self.layout.parts {
            return;
        }
        let first = if self.layout.options.indirect { 0 } else { self.layout.parts * slot };
        let next = if last { 0 } else { (first + part + 1) as u64 };
        let flags = if last { 0 } else { NEXT } | if device_writes { WRITE } else { 0 };
        let at = self.descriptor(slot, part);
        self.memory.store64(at, address);
        self.memory.store64(at + 8, len as u64 | flags << 32 | next << 48);
    }

    /// Makes a request available; whether it could be: its slot is there and not under way.
    pub fn offer(&mut self, slot: usize) -> bool {
        if slot >= self.slots() || self.under_way[slot] {
            return false;
        }
        self.under_way[slot] = true;
        let head = if self.layout.options.indirect { slot } else { slot * self.layout.parts };
        let entry = usize::from(self.available) & (self.layout.size - 1);
        self.memory.store16(self.layout.available + 4 + 2 * entry, head as u16);
        self.available = self.available.wrapping_add(1);
        self.memory.store16(self.layout.available + 2, self.available);
        true
    }

    /// How many were offered since the last look whether the device wants a kick.
    pub fn untold(&self) -> u16 {
        self.available.wrapping_sub(self.told)
    }

    /// How many were offered since the last look, and whether the device wants a kick for them
    /// (§2.7.10.1).
    pub fn wants_kick(&mut self) -> (u16, bool) {
        let (new, offered) = (self.available, self.untold());
        if offered == 0 {
            return (0, false);
        }
        self.told = new;
        // The device must see the index before we look whether it sleeps.
        fence(Ordering::SeqCst);
        let wanted = if self.layout.options.event_idx {
            let event = self.memory.load16(self.layout.used + 4 + 8 * self.layout.size);
            new.wrapping_sub(event).wrapping_sub(1) < offered
        } else {
            self.memory.load16(self.layout.used) & NO_NOTIFY == 0
        };
        (offered, wanted)
    }

    /// Whether the device has given something back that was not taken yet.
    pub fn has_used(&self) -> bool {
        self.memory.load16(self.layout.used + 2) != self.seen
    }

    /// Takes what was given back first: its slot, and the bytes that the device has written.
    pub fn take(&mut self) -> Result<Option<(usize, usize)>, Refused> {
        let index = self.memory.load16(self.layout.used + 2);
        let ahead = index.wrapping_sub(self.seen);
        if ahead == 0 {
            return Ok(None);
        }
        if usize::from(ahead) > self.layout.size {
            return Err(Refused("used-index-is-no-index"));
        }
        let entry = self.layout.used + 4 + 8 * (usize::from(self.seen) & (self.layout.size - 1));
        let (head, len) = (self.memory.load32(entry) as usize, self.memory.load32(entry + 4) as usize);
        let parts = if self.layout.options.indirect { 1 } else { self.layout.parts };
        let slot = head / parts;
        match self.under_way.get_mut(slot) {
            Some(under_way) if *under_way && head.is_multiple_of(parts) => *under_way = false,
            _ => return Err(Refused("used-entry-was-never-offered")),
        }
        self.seen = self.seen.wrapping_add(1);
        if self.seen.wrapping_sub(self.event) > BEHIND {
            self.set_event(self.seen.wrapping_sub(1));
        }
        Ok(Some((slot, len)))
    }

    /// Asks for an interrupt at the next entry given back; whether there is one already (§2.7.7).
    pub fn listen(&mut self) -> bool {
        self.memory.store16(self.layout.available, 0);
        self.set_event(self.seen);
        // The device must see that we listen before we look for the last time.
        fence(Ordering::SeqCst);
        self.has_used()
    }

    /// Asks for no interrupts.
    pub fn hush(&mut self) {
        self.memory.store16(self.layout.available, NO_INTERRUPT);
        self.set_event(self.seen.wrapping_sub(1));
    }

    fn set_event(&mut self, event: u16) {
        self.event = event;
        self.memory.store16(self.layout.available + 4 + 2 * self.layout.size, event);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Ram;
    use super::*;

    const BOTH: [Options; 2] =
        [Options { indirect: false, event_idx: false }, Options { indirect: true, event_idx: true }];

    /// Gives `head` back as a device would.
    fn give(ram: &Ram, layout: &Layout, index: u16, head: u32, len: u32) {
        let entry = layout.used + 4 + 8 * (usize::from(index) & (layout.size - 1));
        ram.store64(entry, u64::from(head) | u64::from(len) << 32);
        ram.store16(layout.used + 2, index.wrapping_add(1));
    }

    #[test]
    fn a_request_goes_out_and_comes_back() {
        for options in BOTH {
            let layout = Layout::new(16, 256, 3, options).unwrap();
            let ram = Ram::new(layout.bytes);
            let mut queue = Queue::new(ram.clone(), layout);
            assert_eq!(queue.slots(), if options.indirect { 16 } else { 5 });
            let slots = queue.slots();
            for part in 0..3 {
                queue.describe(4, part, 0x1000 * part as u64, 512, part > 0);
            }
            // Round and round, past the end of the indices; Miri takes minutes for that.
            for round in 0..if cfg!(miri) { 300 } else { 70_000u32 } {
                let slot = round as usize % slots;
                assert!(queue.offer(slot) && !queue.offer(slot));
                let head =
                    ram.load16(layout.available + 4 + 2 * (usize::from(round as u16) & (layout.size - 1)));
                assert!(!queue.has_used() && queue.take() == Ok(None));
                give(&ram, &layout, round as u16, head.into(), 7);
                assert!(queue.has_used());
                assert_eq!(queue.take(), Ok(Some((slot, 7))));
            }
            assert!(!queue.offer(slots));
        }
    }

    #[test]
    fn a_chain_is_linked_once() {
        for options in BOTH {
            let layout = Layout::new(8, 256, 2, options).unwrap();
            let ram = Ram::new(layout.bytes);
            let queue = Queue::new(ram.clone(), layout);
            queue.describe(1, 0, 0xabc, 16, false);
            queue.describe(1, 1, 0xdef, 1, true);
            let at = if options.indirect { layout.tables + 32 } else { 32 };
            assert_eq!((ram.load64(at), ram.load64(at + 16)), (0xabc, 0xdef));
            let next = if options.indirect { 1 } else { 3 };
            assert_eq!((ram.load64(at + 8), ram.load64(at + 24)), (16 | 1 << 32 | next << 48, 1 | 2 << 32));
            if options.indirect {
                assert_eq!((ram.load64(16), ram.load64(24)), (ram.address() + at as u64, 32 | 4 << 32));
            }
        }
    }

    #[test]
    fn a_request_may_end_before_its_time() {
        let layout = Layout::new(8, 256, 3, BOTH[0]).unwrap();
        let ram = Ram::new(layout.bytes);
        let queue = Queue::new(ram.clone(), layout);
        queue.describe_last(1, 1, 0xabc, 1, true);
        assert_eq!((ram.load64(16 * 4), ram.load64(16 * 4 + 8)), (0xabc, 1 | 2 << 32));
        queue.describe(1, 1, 0xabc, 1, true);
        assert_eq!(ram.load64(16 * 4 + 8), 1 | 3 << 32 | 5 << 48);
    }

    #[test]
    fn one_kick_for_a_batch_and_none_for_who_looks_anyway() {
        for options in BOTH {
            let layout = Layout::new(8, 256, 1, options).unwrap();
            let ram = Ram::new(layout.bytes);
            let mut queue = Queue::new(ram.clone(), layout);
            assert_eq!(queue.wants_kick(), (0, false));
            (0..3).for_each(|slot| assert!(queue.offer(slot)));
            assert_eq!([queue.wants_kick(), queue.wants_kick()], [(3, true), (0, false)]);
            // The device asks for none: a flag, or an index that it has left behind.
            ram.store16(layout.used, NO_NOTIFY);
            assert!(queue.offer(3));
            assert_eq!(queue.wants_kick(), (1, false));
            ram.store16(layout.used, 0);
            ram.store16(layout.used + 4 + 8 * 8, 4);
            assert!(queue.offer(4));
            assert_eq!(queue.wants_kick(), (1, true));
        }
    }

    #[test]
    fn who_listens_is_interrupted_at_the_next_one() {
        let layout = Layout::new(8, 256, 1, BOTH[1]).unwrap();
        let ram = Ram::new(layout.bytes);
        let mut queue = Queue::new(ram.clone(), layout);
        let event = |ram: &Ram| ram.load16(layout.available + 4 + 2 * 8);
        assert_eq!((ram.load16(layout.available), event(&ram)), (NO_INTERRUPT, 0xffff));
        assert!(queue.offer(0) && !queue.listen());
        assert_eq!((ram.load16(layout.available), event(&ram)), (0, 0));
        give(&ram, &layout, 0, 0, 0);
        assert!(queue.listen(), "it came before it was asked for");
        assert_eq!(queue.take(), Ok(Some((0, 0))));
        queue.hush();
        assert_eq!((ram.load16(layout.available), event(&ram)), (NO_INTERRUPT, 0));
    }

    #[test]
    fn a_device_that_lies_is_not_believed() {
        for options in BOTH {
            for size in [3, 24, 40000] {
                let refused = Layout::new(size, 256, 3, options).unwrap_err();
                assert_eq!(refused, Refused("queue-size-is-no-power-of-two"));
            }
            assert_eq!(Layout::new(0, 256, 3, options).unwrap_err(), Refused("queue-is-absent"));
            let layout = Layout::new(8, 256, 2, options).unwrap();
            let ram = Ram::new(layout.bytes);
            let mut queue = Queue::new(ram.clone(), layout);
            assert!(queue.offer(0));
            for head in [1, 2, 7, 8, 255, 256, u32::MAX] {
                give(&ram, &layout, 0, head, 0);
                assert_eq!(queue.take(), Err(Refused("used-entry-was-never-offered")), "{head}");
            }
            ram.store16(layout.used + 2, 9);
            assert_eq!(queue.take(), Err(Refused("used-index-is-no-index")));
            give(&ram, &layout, 0, 0, 0);
            assert_eq!(queue.take(), Ok(Some((0, 0))));
            give(&ram, &layout, 1, 0, 0);
            assert_eq!(queue.take(), Err(Refused("used-entry-was-never-offered")), "given back twice");
        }
        let options = Options { indirect: false, event_idx: false };
        assert_eq!(Layout::new(2, 256, 3, options).unwrap_err(), Refused("queue-is-too-small"));
    }
}
