//! virtio-net by `/dev/vhost-net`: one device for its one queue pair.
//!
//! There is no control queue: what it is for (several pairs, offloads at run time) is not offered.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use virtio_bindings::virtio_net::*;

use crate::net::OFFLOADS;
use crate::net::control::Pairs;
use crate::net::tap::Tap;
use crate::sys::vhost::VhostNet;
use crate::virtio::backend::{BackendError, DataPath, QueueBackend, QueueResources};

/// What the tap does, and vhost need not know of (virtio 1.2 §5.1.3).
const OF_THE_TAP: u64 = OFFLOADS & !(1 << VIRTIO_NET_F_CTRL_GUEST_OFFLOADS);
/// What is in configuration space.
const OF_THE_CARD: u64 = 1 << VIRTIO_NET_F_MAC | 1 << VIRTIO_NET_F_STATUS | 1 << VIRTIO_NET_F_MTU;

/// Receive and send queue.
const QUEUES: u16 = 2;

/// The backend.
pub struct Backend {
    name: String,
    vhost: VhostNet,
    features: u64,
    tap: Tap,
    busy_poll: Duration,
    running: Vec<QueueResources>,
}

impl Backend {
    /// Opens vhost-net for a card called `name` on a tap with one queue pair.
    pub fn open(name: &str, tap: Tap, busy_poll: Duration) -> io::Result<Backend> {
        let vhost = VhostNet::open()?;
        let features = vhost.features()?;
        Ok(Backend { name: name.into(), vhost, features, tap, busy_poll, running: Vec::new() })
    }

    /// The tap's MTU.
    pub fn mtu(&self) -> Option<u16> {
        self.tap.mtu()
    }

    fn run(&self, queues: &[QueueResources], acked: u64) -> io::Result<()> {
        let Some(first) = queues.first() else { return Ok(()) };
        self.tap.set_offload(acked)?;
        self.vhost.set_features(acked & self.features)?;
        self.vhost.set_memory(&first.memory)?;
        for queue in queues {
            let index = queue.index.into();
            self.vhost.set_ring(index, &queue.layout, &queue.memory, &queue.kick, queue.call.event())?;
            if !self.busy_poll.is_zero() {
                let us = u32::try_from(self.busy_poll.as_micros()).unwrap_or(u32::MAX);
                self.vhost.set_busy_poll(index, us)?;
            }
        }
        let tap = self.tap.queue(0).map(AsFd::as_fd);
        queues.iter().try_for_each(|queue| self.vhost.set_backend(queue.index.into(), tap))
    }
}

impl QueueBackend for Backend {
    fn data_path(&self) -> DataPath {
        DataPath::VhostKernel
    }

    fn features(&self) -> u64 {
        self.features | OF_THE_TAP | OF_THE_CARD
    }

    fn start(&mut self, queues: Vec<QueueResources>, acked: u64) -> Result<(), BackendError> {
        let (mine, _) = queues.into_iter().partition(|queue| queue.index < QUEUES);
        self.running = mine;
        self.run(&self.running, acked)
            .map_err(|source| BackendError { deed: format!("start vhost-net for {}", self.name), source })
    }

    fn stop(&mut self) -> Vec<QueueResources> {
        for queue in &self.running {
            // It fails only where the index is unknown.
            let _ = self.vhost.set_backend(queue.index.into(), None);
        }
        std::mem::take(&mut self.running)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop();
    }
}
