//! A ring of a peer, device side: batches of chains taken, given back in order and published at once.
//!
//! Apart from [`crate::virtio::ring`], which serves one chain at a time in the memory of one machine:
//! here each ring lies in its own peer's memory, nothing is in flight between two batches, and what
//! counts is the cost per chain.

mod packed;
mod split;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use virtio_bindings::virtio_config::VIRTIO_F_RING_PACKED;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

use crate::sys::peer::{Cursor, Part, PeerMemory, Pieces};
use crate::virtio::ring::{Layout, RingError};

/// Descriptor flags (virtio 1.2 §2.7.5, §2.8.1).
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
const DESCRIPTOR: usize = 16;
/// The longest chain: what a machine's network stack sends has 19 parts, and what `writev` takes has
/// this many. A bound on the work that one peer can make of one batch.
const LONGEST: u16 = 1024;
/// Buffers that a starved receiver is to have before it kicks.
const FEW: u16 = 64;
/// Pieces after which a batch ends, for the same reason.
const ENOUGH: u32 = 4096;

/// Which way a ring's bytes go: a chain of the other kind makes it broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The peer sends: we read.
    Send,
    /// The peer receives: we write.
    Receive,
}

/// A chain that was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// By which it is given back.
    pub id: u16,
    /// Ring descriptors that it occupies (packed).
    pub span: u16,
    /// Its first piece.
    pub first: u32,
    /// Bytes in it.
    pub len: u32,
}

impl Taken {
    /// Its first byte.
    pub fn start(&self) -> Cursor {
        Cursor { piece: self.first, offset: 0 }
    }
}

/// A ring of either layout.
pub enum Ring {
    Split(split::Split),
    Packed(packed::Packed),
}

impl Ring {
    /// Resolves a ring at guest addresses; `base` is where it goes on ([`Ring::base`]), `features` as
    /// negotiated.
    pub fn new(
        memory: &Arc<PeerMemory>,
        layout: Layout,
        base: u32,
        way: Way,
        features: u64,
    ) -> Result<Ring, RingError> {
        let has = |bit: u32| features & 1 << bit != 0;
        let rules = Rules {
            way,
            indirect: has(VIRTIO_RING_F_INDIRECT_DESC),
            event_idx: has(VIRTIO_RING_F_EVENT_IDX),
        };
        if has(VIRTIO_F_RING_PACKED) {
            packed::Packed::new(memory, layout, base, rules).map(Ring::Packed)
        } else {
            split::Split::new(memory, layout, base, rules).map(Ring::Split)
        }
    }

    /// Takes up to `most` chains; their pieces and themselves are appended. Returns how many.
    #[inline]
    pub fn take(
        &mut self,
        most: usize,
        pieces: &mut Pieces,
        out: &mut Vec<Taken>,
    ) -> Result<usize, RingError> {
        match self {
            Ring::Split(ring) => ring.take(most, pieces, out),
            Ring::Packed(ring) => ring.take(most, pieces, out),
        }
    }

    /// Takes back the last takes, these: they will come again.
    pub fn untake(&mut self, chains: &[Taken]) {
        match self {
            Ring::Split(ring) => ring.untake(chains),
            Ring::Packed(ring) => ring.untake(chains),
        }
    }

    /// Gives a chain back, `written` bytes of it filled, to be published together with what follows.
    #[inline]
    pub fn fill(&mut self, chain: &Taken, written: u32) {
        match self {
            Ring::Split(ring) => ring.fill(chain, written),
            Ring::Packed(ring) => ring.fill(chain, written),
        }
    }

    /// Shows the driver everything that was filled; true if it wants an interrupt for it.
    pub fn publish(&mut self) -> bool {
        match self {
            Ring::Split(ring) => ring.publish(),
            Ring::Packed(ring) => ring.publish(),
        }
    }

    /// Asks for a kick at the next chain; true if one came meanwhile.
    pub fn listen(&mut self) -> bool {
        self.listen_beyond(0, 1)
    }

    /// Asks for a kick when there are a few descriptors beyond the next `had`, as far as its driver can be
    /// asked so: not one for each. True if any came meanwhile.
    pub fn listen_for_few(&mut self, had: u16) -> bool {
        let had = had.min(self.size());
        self.listen_beyond(had, FEW.min((self.size() - had) / 2).max(1))
    }

    fn listen_beyond(&mut self, had: u16, count: u16) -> bool {
        match self {
            Ring::Split(ring) => ring.listen_beyond(had, count),
            Ring::Packed(ring) => ring.listen_beyond(had, count),
        }
    }

    /// Asks for no kicks.
    pub fn hush(&mut self) {
        match self {
            Ring::Split(ring) => ring.hush(),
            Ring::Packed(ring) => ring.hush(),
        }
    }

    /// Entries of the ring.
    pub fn size(&self) -> u16 {
        match self {
            Ring::Split(ring) => ring.size,
            Ring::Packed(ring) => ring.size,
        }
    }

    /// Where it goes on, as GET_VRING_BASE answers. Everything taken has been given back by then.
    pub fn base(&self) -> u32 {
        match self {
            Ring::Split(ring) => ring.base(),
            Ring::Packed(ring) => ring.base(),
        }
    }
}

/// What was negotiated about a ring.
#[derive(Clone, Copy)]
struct Rules {
    way: Way,
    indirect: bool,
    event_idx: bool,
}

/// The parts of a ring where `layout` puts them: descriptors, the driver's area, the device's. Of each
/// its name, length and alignment.
fn parts(
    memory: &Arc<PeerMemory>,
    layout: Layout,
    of: [(&'static str, usize, u64); 3],
) -> Result<[Part; 3], RingError> {
    let part = |address, (name, len, align)| {
        Part::new(memory, address, len, align).ok_or(RingError::Place(name, address))
    };
    let [descriptors, available, used] = of;
    Ok([part(layout.descriptors, descriptors)?, part(layout.available, available)?, part(layout.used, used)?])
}

/// A chain while it is walked.
struct Walk<'a> {
    rules: Rules,
    /// Descriptors that it may have.
    most: u16,
    head: u16,
    taken: u16,
    bytes: u64,
    pieces: &'a mut Pieces,
}

impl Walk<'_> {
    #[inline]
    fn append(&mut self, address: u64, len: u32, flags: u16) -> Result<(), RingError> {
        self.taken += 1;
        if self.taken > self.most {
            return Err(RingError::TooLong(self.head));
        }
        if (flags & WRITE != 0) != (self.rules.way == Way::Receive) {
            return Err(RingError::Order(self.head));
        }
        if !self.pieces.push(address, len) {
            return Err(RingError::Buffer { address, len });
        }
        self.bytes += u64::from(len);
        // §2.7.5.2: no more than 2^32 bytes in a chain; one less, so that a length fits the used ring.
        if self.bytes > u64::from(u32::MAX) { Err(RingError::TooBig(self.head)) } else { Ok(()) }
    }

    /// Copies an indirect table of `len` bytes, once.
    fn table(&self, address: u64, len: u32) -> Result<Vec<u8>, RingError> {
        if !self.rules.indirect {
            return Err(RingError::IndirectUnasked);
        }
        let count = len as usize / DESCRIPTOR;
        let whole = len > 0 && (len as usize).is_multiple_of(DESCRIPTOR);
        if !whole || count > usize::from(self.most) {
            return Err(RingError::Indirect(len));
        }
        let mut table = vec![0; len as usize];
        match self.pieces.memory().read(address, &mut table) {
            true => Ok(table),
            false => Err(RingError::Buffer { address, len }),
        }
    }
}
