//! virtio-net (virtio 1.2 §5.1): a tap as a network card.
//!
//! - [`tap`]      the interface on the host: opened, checked
//! - [`trouble`]  why it can't be used, and what mends it
//! - [`receive`]  frames from the tap straight into the guest's buffers, several if need be
//! - [`send`]     frames from the guest's buffers straight into the tap
//! - [`held`]     the interrupt that says so, held back for a moment
//! - [`pace`]     how a worker keeps step with a stream, and is not kicked for each frame
//! - [`control`]  the control queue: queue pairs, offloads, [`filter`] (which frames are wanted), [`face`]
//!   (what it has changed)
//! - [`split`]    … where the frames are another's
//! - [`pair`]     one receive and one send queue, and the thread that serves them

pub mod control;
pub mod face;
mod filter;
pub mod held;
mod pace;
pub mod pair;
pub mod receive;
pub mod send;
pub mod split;
pub mod tap;
#[cfg(test)]
mod tests;
mod trouble;

use std::io;
use std::sync::Arc;
use std::time::Instant;

use virtio_bindings::virtio_net::*;

use face::Face;
use pair::Pair;
use tap::Tap;

use crate::virtio::backend::QueueBackend;
use crate::virtio::device::{Device, Kind};
use crate::virtio::front::OperationCounts;
use crate::virtio::rate::Limiter;
use crate::virtio::tally::Shared;
use crate::virtio::userspace::{Group, Tuning, Userspace};

/// Entries of the receive and send queues, and of the control queue.
const QUEUE_SIZE: u16 = 256;
const CONTROL_SIZE: u16 = 64;
/// `struct virtio_net_hdr_v1`: before each frame, with VERSION_1 always this long (§5.1.6).
pub const HEADER: usize = 12;
/// Bytes of `struct virtio_net_config` up to the MTU.
const CONFIG: usize = 12;

/// Checksum and segmentation left to the other side.
pub const OFFLOADS: u64 = 1 << VIRTIO_NET_F_CSUM
    | 1 << VIRTIO_NET_F_GUEST_CSUM
    | 1 << VIRTIO_NET_F_GUEST_TSO4
    | 1 << VIRTIO_NET_F_GUEST_TSO6
    | 1 << VIRTIO_NET_F_GUEST_ECN
    | 1 << VIRTIO_NET_F_HOST_TSO4
    | 1 << VIRTIO_NET_F_HOST_TSO6
    | 1 << VIRTIO_NET_F_HOST_ECN
    | 1 << VIRTIO_NET_F_CTRL_GUEST_OFFLOADS;

/// Needed so that the driver can say which frames it wants: by whoever looks at each frame.
const FILTER: u64 = 1 << VIRTIO_NET_F_CTRL_RX | 1 << VIRTIO_NET_F_CTRL_MAC_ADDR;

/// Operations, by number: a frame from when it was looked for, or taken, until it was given back. Unwanted
/// ones are dropped here.
const OPERATIONS: [&str; 3] = ["receive", "send", "unwanted"];
const RECEIVE: usize = 0;
const SEND: usize = 1;
const UNWANTED: usize = 2;

/// How a card looks to the guest.
#[derive(Clone, Debug)]
pub struct Options {
    pub mac: [u8; 6],
    /// Offer checksum and segmentation offload, both ways.
    pub offload: bool,
}

/// A network card.
pub struct Net {
    name: String,
    features: u64,
    config: [u8; CONFIG],
    queue_sizes: Vec<u16>,
    backend: Box<dyn QueueBackend>,
    /// Of a card whose frames pass through this process.
    seen: Option<(Arc<Face>, Shared)>,
}

impl Net {
    /// A card over a tap, with a worker thread for each of its queue pairs.
    pub fn userspace(name: &str, tap: Tap, options: &Options, tuning: Tuning) -> Net {
        let tap = Arc::new(tap);
        let pairs = tap.pairs();
        let (face, tally) = (Arc::new(Face::new(options.mac, tap.is_up())), Shared::new(&OPERATIONS));
        let limiter = Limiter::new(tuning.rate, Instant::now());
        let group = |pair: u16| {
            let mut queues = vec![2 * pair, 2 * pair + 1];
            queues.extend((pair == 0 && pairs > 1).then_some(2 * pairs));
            // Without MQ the control queue is number 2, wherever the pairs end (§5.1.2).
            queues.extend((pair == 0 && pairs == 1).then_some(2));
            let served = Pair::new(tap.clone(), pair, face.clone(), tally.clone()).limited(&limiter);
            Group { queues, server: Box::new(served) }
        };
        let groups = (0..pairs).map(group).collect();
        let backend = Userspace::new(name, u64::MAX, groups, tuning);
        let mut net = Net::new(name, pairs, tap.mtu(), options, Box::new(backend));
        net.features |= FILTER;
        net.seen = Some((face, tally));
        net.refresh();
        net
    }

    /// A card of `pairs` queue pairs, whoever serves it.
    pub fn new(
        name: &str,
        pairs: u16,
        mtu: Option<u16>,
        options: &Options,
        backend: Box<dyn QueueBackend>,
    ) -> Net {
        let mut config = [0; CONFIG];
        config[..6].copy_from_slice(&options.mac);
        config[6..8].copy_from_slice(&(VIRTIO_NET_S_LINK_UP as u16).to_le_bytes());
        config[8..10].copy_from_slice(&pairs.to_le_bytes());
        config[10..12].copy_from_slice(&mtu.unwrap_or(0).to_le_bytes());
        let bits = [
            (1 << VIRTIO_NET_F_MAC | 1 << VIRTIO_NET_F_STATUS | 1 << VIRTIO_NET_F_MRG_RXBUF, true),
            (1 << VIRTIO_NET_F_CTRL_VQ, true),
            (1 << VIRTIO_NET_F_MTU, mtu.is_some()),
            (1 << VIRTIO_NET_F_MQ, pairs > 1),
            (OFFLOADS, options.offload),
        ];
        let features = bits.iter().filter(|(_, on)| *on).fold(0, |features, (bit, _)| features | bit);
        let mut queue_sizes = vec![QUEUE_SIZE; 2 * usize::from(pairs)];
        queue_sizes.push(CONTROL_SIZE);
        Net { name: name.into(), features, config, queue_sizes, backend, seen: None }
    }

    /// The same with receive and send queues of so many entries.
    pub fn with_rings_of(mut self, entries: u16) -> Net {
        if let Some((_control, rings)) = self.queue_sizes.split_last_mut() {
            rings.fill(entries);
        }
        self
    }
}

/// A locally administered address that stays the same for the same interface, and differs between
/// interfaces of a host.
pub fn mac_for(interface: &str) -> [u8; 6] {
    // FNV-1a: short, and the same everywhere.
    let hash = interface.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let [a, b, c, d, e, ..] = hash.to_be_bytes();
    [0x02, a, b, c, d, e]
}

impl Device for Net {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> Kind {
        Kind::NET
    }

    fn features(&self) -> u64 {
        self.features
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn refresh(&mut self) -> bool {
        let Some((face, _)) = &self.seen else { return false };
        let mac = face.mac();
        let status = if face.up() { VIRTIO_NET_S_LINK_UP as u16 } else { 0 };
        let mut now = [0; 8];
        now[..6].copy_from_slice(&mac);
        now[6..].copy_from_slice(&status.to_le_bytes());
        let changed = self.config[..8] != now;
        self.config[..8].copy_from_slice(&now);
        changed
    }

    fn operations(&self) -> Vec<OperationCounts> {
        self.seen.iter().flat_map(|(_, tally)| tally.counts()).collect()
    }

    fn backend(&mut self) -> &mut dyn QueueBackend {
        self.backend.as_mut()
    }
}

/// What an I/O error of the tap means: nothing there now, or something is wrong.
fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}
