//! A network card whose frames another process carries: a switch, mostly.

use std::io;
use std::sync::Arc;

use virtio_bindings::virtio_net::*;

use super::frontend::{OpenError, Switch, VhostUser, Wanted};
use super::session::Address;
use crate::net::control::Pairs;
use crate::net::split::Split;
use crate::net::{Net, OFFLOADS, Options};
use crate::virtio::backend::{BackendError, DataPath, QueueBackend, QueueResources};
use crate::virtio::userspace::Tuning;

/// Entries of a ring. A switch may have one CPU for many machines: what a ring holds is what a machine can
/// send or take between two of its turns.
const QUEUE_SIZE: u16 = 1024;
/// What of a card's features its peer need not know of: they are in configuration space, which is ours.
const OF_THE_CARD: u64 = 1 << VIRTIO_NET_F_MAC | 1 << VIRTIO_NET_F_STATUS;
/// What of a peer's features is of use; a change of offloads at run time can't be told to it.
const OF_THE_PEER: u64 = !(1 << VIRTIO_NET_F_CTRL_VQ | 1 << VIRTIO_NET_F_MQ | 1 << VIRTIO_NET_F_MTU)
    & !OFFLOADS
    | OFFLOADS & !(1 << VIRTIO_NET_F_CTRL_GUEST_OFFLOADS);

/// A card called `name` with `pairs` queue pairs, carried by the peer at `address`.
pub fn card(
    name: &str,
    address: Address,
    pairs: u16,
    options: &Options,
    tuning: Tuning,
) -> Result<Net, OpenError> {
    let peer = VhostUser::open(name, address, Wanted { queues: pairs, config: 0, on: 2 }, &tuning)?;
    let switch = peer.switch();
    let carried = Box::new(Carried { peer, pairs });
    let backend: Box<dyn QueueBackend> = if pairs == 1 {
        carried
    } else {
        Box::new(Split::new(name, carried, Arc::new(Rings { pairs, switch }), tuning))
    };
    Ok(Net::new(name, pairs, None, options, backend).with_rings_of(QUEUE_SIZE))
}

/// A peer, and what a card has beyond it.
struct Carried {
    peer: VhostUser,
    pairs: u16,
}

impl QueueBackend for Carried {
    fn data_path(&self) -> DataPath {
        self.peer.data_path()
    }

    fn features(&self) -> u64 {
        self.peer.features() & OF_THE_PEER | OF_THE_CARD
    }

    fn start(&mut self, mut queues: Vec<QueueResources>, acked: u64) -> Result<(), BackendError> {
        // A control queue that was not offered is nobody's.
        queues.retain(|queue| queue.index < 2 * self.pairs);
        self.peer.start(queues, acked)
    }

    fn stop(&mut self) -> Vec<QueueResources> {
        self.peer.stop()
    }

    fn stop_soon(&mut self) -> bool {
        self.peer.stop_soon()
    }

    fn stopped(&mut self) -> bool {
        self.peer.stopped()
    }
}

/// Pairs as the control queue switches them.
struct Rings {
    pairs: u16,
    switch: Switch,
}

impl Pairs for Rings {
    fn count(&self) -> u16 {
        self.pairs
    }

    fn attach(&self, pairs: u16) -> io::Result<()> {
        self.switch.first(2 * pairs);
        Ok(())
    }

    fn set_offload(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
