//! virtio-net by `/dev/vhost-net`: one device, and so one thread of the kernel, for each queue pair.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use virtio_bindings::virtio_net::*;
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;

use super::sent::Sent;
use super::worker::{self, Worker};
use crate::net::control::Pairs;
use crate::net::split::Split;
use crate::net::tap::Tap;
use crate::net::{Net, OFFLOADS, Options};
use crate::sys::vhost::Vhost;
use crate::virtio::backend::{BackendError, DataPath, QueueBackend, QueueResources};
use crate::virtio::counters::ThreadCounts;
use crate::virtio::userspace::{BusyPoll, Entered, Tuning};

/// What the tap does, and vhost need not know of (virtio 1.2 §5.1.3). Not offloads at run time: who
/// serves the control queue can't tell vhost.
const OF_THE_TAP: u64 = OFFLOADS & !(1 << VIRTIO_NET_F_CTRL_GUEST_OFFLOADS);
/// What is in configuration space.
const OF_THE_CARD: u64 = 1 << VIRTIO_NET_F_MAC | 1 << VIRTIO_NET_F_STATUS | 1 << VIRTIO_NET_F_MTU;

/// A card called `name` on `tap`, served by the kernel.
pub fn card(name: &str, tap: Tap, options: &Options, tuning: Tuning) -> io::Result<Net> {
    let (pairs, mtu, tap) = (tap.pairs(), tap.mtu(), Arc::new(tap));
    let backend = Box::new(Backend::open(name, tap.clone(), &tuning)?);
    let backend: Box<dyn QueueBackend> =
        if pairs == 1 { backend } else { Box::new(Split::new(name, backend, tap, tuning)) };
    Ok(Net::new(name, pairs, mtu, options, backend))
}

/// The backend.
struct Backend {
    name: String,
    /// By queue pair.
    pairs: Vec<Pair>,
    features: u64,
    tap: Arc<Tap>,
    busy_poll: BusyPoll,
    entered: Entered,
    running: Vec<QueueResources>,
    /// A thread for each pair that runs, and those that have ended.
    sent: Vec<Sent>,
    ended: Option<ThreadCounts>,
}

/// A queue pair, as the kernel has it.
struct Pair {
    vhost: Arc<Vhost>,
    /// Its thread, where it was found.
    worker: Option<Worker>,
}

impl Backend {
    fn open(name: &str, tap: Arc<Tap>, tuning: &Tuning) -> io::Result<Backend> {
        let pair = |_| {
            let (vhost, worker) = worker::of(|| Vhost::open("/dev/vhost-net"))?;
            if let Some(worker) = &worker {
                (tuning.entered)(name, worker.id());
            }
            Ok(Pair { vhost: Arc::new(vhost), worker })
        };
        let pairs = (0..tap.pairs()).map(pair).collect::<io::Result<Vec<_>>>()?;
        let features = pairs.first().map_or(Ok(0), |pair| pair.vhost.features())?;
        let busy_poll = tuning.busy_poll;
        let (name, entered) = (name.into(), tuning.entered.clone());
        let (running, sent, ended) = (Vec::new(), Vec::new(), None);
        Ok(Backend { name, pairs, features, tap, busy_poll, entered, running, sent, ended })
    }

    /// The device that has a queue, and the queue's number there.
    fn vhost(&self, queue: &QueueResources) -> Option<(&Arc<Vhost>, u32)> {
        self.pairs.get(usize::from(queue.index / 2)).map(|pair| (&pair.vhost, u32::from(queue.index % 2)))
    }

    /// Comes between vhost and the interrupts for sent frames. Without EVENT_IDX a driver doesn't say whether it has
    /// taken what was sent.
    fn hold(&self, acked: u64) -> io::Result<Vec<Sent>> {
        let with_events = acked & 1 << VIRTIO_RING_F_EVENT_IDX != 0;
        let mut sent = Vec::new();
        for pair in self.running.chunk_by(|one, next| one.index / 2 == next.index / 2) {
            if let ([receive, send], true) = (pair, with_events)
                && let Some(vhost) = self.vhost(send)
            {
                let adaptive = self.busy_poll == BusyPoll::Adaptive;
                sent.extend(Sent::start(&self.name, vhost, send, receive, adaptive, &self.entered)?);
            }
        }
        Ok(sent)
    }

    fn run(&self, queues: &[QueueResources], acked: u64) -> io::Result<()> {
        let Some(first) = queues.first() else { return Ok(()) };
        self.tap.set_offload(acked)?;
        // The others carry frames once the driver says so, by its control queue.
        self.tap.attach(1)?;
        for Pair { vhost, .. } in &self.pairs {
            vhost.set_features(acked & self.features)?;
            vhost.set_memory(&first.memory)?;
        }
        for queue in queues {
            let Some((vhost, index)) = self.vhost(queue) else { continue };
            vhost.set_ring(index, queue)?;
            let us = u32::try_from(self.busy_poll.asked().as_micros()).unwrap_or(u32::MAX);
            // A driver before may have been looked after for longer.
            match vhost.set_busy_poll(index, us) {
                Err(error) if us > 0 => return Err(error),
                _ => {}
            }
        }
        queues.iter().try_for_each(|queue| {
            let tap = self.tap.queue(queue.index / 2).map(AsFd::as_fd);
            self.vhost(queue).map_or(Ok(()), |(vhost, index)| vhost.set_backend(index, tap))
        })
    }
}

impl QueueBackend for Backend {
    fn data_path(&self) -> DataPath {
        DataPath::VhostKernel
    }

    fn features(&self) -> u64 {
        self.features | OF_THE_TAP | OF_THE_CARD
    }

    fn start(&mut self, mut queues: Vec<QueueResources>, acked: u64) -> Result<(), BackendError> {
        // A control queue that was not offered is nobody's.
        queues.retain(|queue| self.vhost(queue).is_some());
        self.running = queues;
        let held = self.run(&self.running, acked).and_then(|()| self.hold(acked));
        held.map(|sent| self.sent = sent)
            .map_err(|source| BackendError { deed: format!("start vhost-net for {}", self.name), source })
    }

    fn stop(&mut self) -> Vec<QueueResources> {
        let mut queues = std::mem::take(&mut self.running);
        for queue in &mut queues {
            let Some((vhost, index)) = self.vhost(queue) else { continue };
            // Both fail only where the index is unknown.
            let _ = vhost.set_backend(index, None);
            queue.base = vhost.base(index).unwrap_or(0);
        }
        for ended in self.sent.drain(..).map(Sent::stop) {
            let before = self.ended.take().map_or(Some(0), |before| before.cpu_ns);
            let cpu_ns = before.zip(ended.cpu_ns).map(|(before, more)| before + more);
            self.ended = Some(ThreadCounts { cpu_ns, ..ended });
        }
        queues
    }

    fn threads(&self) -> Vec<ThreadCounts> {
        let workers = self.pairs.iter().filter_map(|pair| pair.worker.as_ref());
        // One row for all that held interrupts back: they are alike, and have ended.
        workers.map(Worker::counts).chain(self.ended.clone()).collect()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop();
    }
}
