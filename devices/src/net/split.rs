//! A card whose frames another carries: the kernel's vhost, or another process. The control queue, which
//! says how many queue pairs are in use, stays here, on a thread that sleeps but for that.

use std::io;
use std::sync::Arc;

use virtio_bindings::virtio_net::*;

use super::control::{Control, Pairs};
use crate::virtio::backend::{BackendError, DataPath, QueueBackend, QueueResources};
use crate::virtio::counters::ThreadCounts;
use crate::virtio::queue::Queue;
use crate::virtio::ring::RingError;
use crate::virtio::userspace::{BusyPoll, Group, Server, Tuning, Userspace};

/// The backend of such a card.
pub struct Split {
    data: Box<dyn QueueBackend>,
    control: Userspace,
    pairs: u16,
    /// Which queue is the control queue, with the features that were last agreed on.
    control_index: u16,
}

impl Split {
    /// A card called `name`, whose `pairs` are carried by `data`.
    pub fn new(name: &str, data: Box<dyn QueueBackend>, pairs: Arc<dyn Pairs>, tuning: Tuning) -> Split {
        let count = pairs.count();
        let server = Box::new(Controller { pairs, acked: 0 });
        // It waits for one command at a driver's start: polling for it would only cost.
        let control = Userspace::new(
            &format!("{name}.control"),
            u64::MAX,
            vec![Group { queues: vec![2, 2 * count], server }],
            Tuning { busy_poll: BusyPoll::OFF, ..tuning },
        );
        Split { data, control, pairs: count, control_index: 2 * count }
    }
}

impl QueueBackend for Split {
    fn data_path(&self) -> DataPath {
        self.data.data_path()
    }

    fn serves_here(&self, queue: u16) -> bool {
        queue == self.control_index
    }

    fn features(&self) -> u64 {
        self.data.features() | 1 << VIRTIO_NET_F_CTRL_VQ | 1 << VIRTIO_NET_F_MQ
    }

    fn start(&mut self, queues: Vec<QueueResources>, acked: u64) -> Result<(), BackendError> {
        // It follows the pairs; without MQ there is one pair (§5.1.2).
        let control = if acked & 1 << VIRTIO_NET_F_MQ != 0 { 2 * self.pairs } else { 2 };
        self.control_index = control;
        let (mine, data): (Vec<_>, _) = queues.into_iter().partition(|queue| queue.index == control);
        // What lies beyond the control queue belongs to nobody.
        let data = data.into_iter().filter(|queue| queue.index < control).collect();
        self.data.start(data, acked)?;
        self.control.start(mine, acked)
    }

    fn threads(&self) -> Vec<ThreadCounts> {
        let mut threads = self.data.threads();
        threads.extend(self.control.threads());
        threads
    }

    fn stop(&mut self) -> Vec<QueueResources> {
        let mut queues = self.control.stop();
        queues.extend(self.data.stop());
        queues
    }

    fn stop_soon(&mut self) -> bool {
        self.control.stop();
        self.data.stop_soon()
    }

    fn stopped(&mut self) -> bool {
        self.data.stopped()
    }
}

/// Serves the control queue, and no other.
struct Controller {
    pairs: Arc<dyn Pairs>,
    acked: u64,
}

impl Server for Controller {
    fn begin(&mut self, _: &mut [Queue], acked: u64) -> io::Result<()> {
        self.acked = acked;
        Ok(())
    }

    fn serve(&mut self, queues: &mut [Queue], _: bool) -> Result<bool, RingError> {
        let mut control = Control { pairs: self.pairs.as_ref(), face: None, acked: self.acked };
        let mut served = 0;
        for queue in queues {
            served += queue.drain(&mut control)?;
        }
        Ok(served > 0)
    }
}
