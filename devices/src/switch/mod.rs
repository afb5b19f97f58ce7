//! A switch between machines: a vhost-user backend with a port for each, that copies every frame once,
//! from the sender's buffers straight into the receiver's.
//!
//! - [`port`]     the rings that a peer has handed over
//! - [`ring`]     … taken and given back batch by batch
//! - [`table`]    which address is behind which port
//! - [`frame`]    what virtio-net says before each frame
//! - [`forward`]  the copy loop: [`addressed`], where each frame goes; [`receiving`], where it is put
//! - [`offload`]  checksums and segments, where the receiver takes less than the sender left to do
//! - [`worker`]   the threads that poll, or sleep
//! - [`counts`]   what each ring did
//!
//! Two kinds of threads: workers move frames; each port has one of its own that listens on its socket
//! and answers its peer, so that a peer that stops in mid-message keeps nobody waiting but itself.
//!
//! A frame goes from queue *n* of its sender to queue *n*, modulo what the receiver runs, so flows stay
//! in order as long as senders keep each on one queue, which all do. Nothing is in flight between two
//! batches and buffers are used in order; so a machine, or the switch, may be gone at any moment, and a
//! ring goes on from its used index without a record in shared memory (INFLIGHT_SHMFD is not offered).

mod addressed;
pub mod counts;
mod forward;
mod frame;
mod offload;
mod port;
mod receiving;
pub(crate) mod ring;
mod table;
#[cfg(test)]
mod tests;
mod worker;

use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use virtio_bindings::virtio_config::{VIRTIO_F_IN_ORDER, VIRTIO_F_RING_PACKED, VIRTIO_F_VERSION_1};
use virtio_bindings::virtio_net::*;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use counts::Counts;
pub use port::Full;
use port::{Live, PAIRS, Port, Shared};
use ring::{Ring, Way};
use table::Table;
use worker::{Worker, WorkerCounters};

use crate::sys::socket;
use crate::vhost_user::backend::{Answer, Backend, Device, Setup};
use crate::vhost_user::channel::{Channel, PeerError};
use crate::virtio::counters::pending;
use crate::virtio::ring::RingError;

/// Ports that a switch may have.
pub const PORTS: std::ops::RangeInclusive<usize> = 2..=64;
/// How long a peer may take for a message that it has begun.
const PATIENCE: Duration = Duration::from_secs(2);
/// Both kinds of threads are shallow.
const STACK: usize = 256 << 10;

/// What a switch offers to its machines.
pub(crate) const FEATURES: u64 = 1 << VIRTIO_F_VERSION_1
    | 1 << VIRTIO_F_RING_PACKED
    | 1 << VIRTIO_F_IN_ORDER
    | 1 << VIRTIO_RING_F_INDIRECT_DESC
    | 1 << VIRTIO_RING_F_EVENT_IDX
    | 1 << VIRTIO_NET_F_MRG_RXBUF
    | 1 << VIRTIO_NET_F_MQ
    | 1 << VIRTIO_NET_F_CTRL_VQ
    | 1 << VIRTIO_NET_F_STATUS
    | 1 << VIRTIO_NET_F_CSUM
    | 1 << VIRTIO_NET_F_HOST_TSO4
    | 1 << VIRTIO_NET_F_HOST_TSO6
    | 1 << VIRTIO_NET_F_HOST_ECN
    | 1 << VIRTIO_NET_F_GUEST_CSUM
    | 1 << VIRTIO_NET_F_GUEST_TSO4
    | 1 << VIRTIO_NET_F_GUEST_TSO6
    | 1 << VIRTIO_NET_F_GUEST_ECN;

/// A switch to be.
pub struct Plan {
    /// Sockets that listen, with their paths.
    pub ports: Vec<(String, UnixListener)>,
    /// Called by each worker before it serves, with its number: pins it. One worker for each.
    pub workers: Vec<Box<dyn FnOnce() + Send>>,
    /// How long a worker polls before it sleeps.
    pub busy_poll: Duration,
    pub full: Full,
    /// How long a silent address is remembered.
    pub age: Duration,
}

/// A switch that runs. Dropped, it lets go of every peer.
pub struct Switch {
    shared: Arc<Shared>,
    workers: Vec<(Arc<WorkerCounters>, JoinHandle<()>)>,
    listeners: Vec<(UnixListener, JoinHandle<()>)>,
    born: Instant,
}

/// What a switch did, as plain data.
#[derive(Clone, Debug, Default)]
pub struct SwitchCounts {
    pub wall: Duration,
    pub ports: Vec<PortCounts>,
    pub workers: Vec<WorkerCounts>,
}

/// What a port did.
#[derive(Clone, Debug, Default)]
pub struct PortCounts {
    pub name: String,
    pub connected: bool,
    /// Peers so far.
    pub connections: u64,
    /// Feature bits that the last of them took.
    pub features: u64,
    /// Ethernet addresses known behind it.
    pub addresses: usize,
    /// What its peers did wrong, how often, and the last of it.
    pub errors: u64,
    pub last_error: Option<String>,
    /// Queue pairs that did anything: from the peer, and to it.
    pub pairs: Vec<PairCounts>,
}

/// What a queue pair did, named as its peer would: it sends, and receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PairCounts {
    pub send: Counts,
    pub receive: Counts,
}

/// What a worker did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerCounts {
    pub busy: Duration,
    pub rounds: u64,
    pub empty_rounds: u64,
    /// Moments that it left to others on its CPU.
    pub naps: u64,
    pub sleeps: u64,
}

impl Switch {
    /// Starts it.
    pub fn start(plan: Plan) -> io::Result<Switch> {
        let (names, sockets): (Vec<_>, Vec<_>) = plan.ports.into_iter().unzip();
        let table = Table::new(names.len(), plan.age.as_secs().try_into().unwrap_or(u32::MAX));
        let ports = names.into_iter().map(Port::new).collect();
        let wake = plan.workers.iter().map(|_| EventFd::new(EFD_NONBLOCK)).collect::<io::Result<_>>()?;
        let shared = Arc::new(Shared::new(ports, table, plan.full, wake));
        let born = Instant::now();
        let mut switch = Switch { shared, workers: Vec::new(), listeners: Vec::new(), born };
        for (number, enter) in plan.workers.into_iter().enumerate() {
            let counters = Arc::new(WorkerCounters::default());
            let worker = Worker {
                number,
                shared: switch.shared.clone(),
                busy_poll: plan.busy_poll,
                born,
                counters: counters.clone(),
            };
            let body = move || {
                enter();
                if let Err(error) = worker.run() {
                    eprintln!("vmm: switch worker {number}: {error}");
                }
            };
            let thread = Builder::new().name(format!("switch{number}")).stack_size(STACK).spawn(body)?;
            switch.workers.push((counters, thread));
        }
        for (number, socket) in sockets.into_iter().enumerate() {
            let (shared, listener) = (switch.shared.clone(), socket.try_clone()?);
            let body = move || listen(&shared, number, &listener);
            let thread = Builder::new().name(format!("port{number}")).stack_size(STACK).spawn(body)?;
            switch.listeners.push((socket, thread));
        }
        Ok(switch)
    }

    /// What it did so far.
    pub fn counts(&self) -> SwitchCounts {
        let wall = self.born.elapsed();
        let ports = self.shared.ports.iter().enumerate();
        let ports = ports.map(|(number, port)| {
            let mut pairs: Vec<PairCounts> = port
                .pairs
                .iter()
                .map(|pair| PairCounts { send: pair.send.counts(), receive: pair.receive.counts() })
                .collect();
            let used = pairs.iter().rposition(|pair| *pair != PairCounts::default());
            pairs.truncate(used.map_or(0, |last| last + 1));
            PortCounts {
                name: port.name.clone(),
                connected: port.connected(),
                connections: port.connections.load(Ordering::Relaxed),
                features: port.features.load(Ordering::Relaxed),
                addresses: self.shared.table.held(number as u8, wall.as_secs() as u32),
                errors: port.errors.load(Ordering::Acquire),
                last_error: port.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
                pairs,
            }
        });
        let workers = self.workers.iter().map(|(counters, _)| WorkerCounts {
            busy: Duration::from_nanos(counters.busy_ns.load(Ordering::Relaxed)),
            rounds: counters.rounds.get(),
            empty_rounds: counters.empty_rounds.get(),
            naps: counters.naps.get(),
            sleeps: counters.sleeps.get(),
        });
        SwitchCounts { wall, ports: ports.collect(), workers: workers.collect() }
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        for (socket, _) in &self.listeners {
            socket::shut_down(socket.as_fd());
        }
        self.shared.ports.iter().for_each(Port::hang_up);
        self.shared.changed();
        // A thread that panicked has printed why.
        for (_, thread) in self.listeners.drain(..) {
            let _ = thread.join();
        }
        for (_, thread) in self.workers.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A port's own thread: one peer after another.
fn listen(shared: &Shared, number: usize, listener: &UnixListener) {
    let port = &shared.ports[number];
    while !shared.stop.load(Ordering::Acquire) {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            // Out of descriptors, or a peer that has gone already: there may be another.
            Err(_) if shared.stop.load(Ordering::Acquire) => return,
            Err(error) => {
                port.complain(&format_args!("accept: {error}"));
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        let Ok(handle) = stream.try_clone() else { continue };
        port.set_connection(Some(handle));
        // The switch may have stopped before it could hang up on this one.
        if shared.stop.load(Ordering::Acquire) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        if let Err(error) = talk(shared, number, stream) {
            port.complain(&error);
        }
        port.set_connection(None);
        shared.table.flush(number as u8);
    }
}

/// Serves one peer until it goes.
fn talk(shared: &Shared, number: usize, stream: UnixStream) -> Result<(), Box<dyn std::error::Error>> {
    let channel = Channel::new(stream, PATIENCE)?;
    let mut backend = Backend::new(Attached { shared, number });
    loop {
        let message = match channel.receive() {
            Err(PeerError::Closed) => return Ok(()),
            message => message?,
        };
        let request = message.request()?;
        let (code, acknowledged) = (request.code(), message.header.need_reply);
        let answer = backend.handle(request, message.fds);
        let acknowledged = acknowledged && backend.acknowledges() && !code.answered();
        match answer {
            Ok(Answer::Number(number)) => channel.answer(code, &number.to_ne_bytes(), &[])?,
            Ok(Answer::State(state)) => channel.answer(code, &state.encode(), &[])?,
            Ok(Answer::Done) if acknowledged => channel.answer(code, &0_u64.to_ne_bytes(), &[])?,
            Ok(Answer::Done) => {}
            Err(error) => {
                if acknowledged {
                    channel.answer(code, &1_u64.to_ne_bytes(), &[])?;
                }
                return Err(error.into());
            }
        }
    }
}

/// A port as the device behind a connection.
struct Attached<'a> {
    shared: &'a Shared,
    number: usize,
}

impl Attached<'_> {
    fn port(&self) -> &Port {
        &self.shared.ports[self.number]
    }

    fn set(&self, index: u16, live: Option<Live>) -> Option<Live> {
        let before = self.port().side(index).and_then(|side| side.set(live));
        self.port().count_receivers();
        self.shared.changed();
        before
    }
}

impl Device for Attached<'_> {
    fn features(&self) -> u64 {
        FEATURES
    }

    fn rings(&self) -> u16 {
        2 * PAIRS
    }

    fn start(&mut self, index: u16, ring: Setup) -> Result<(), RingError> {
        let Setup { memory, layout, base, features, kick, call, error } = ring;
        let way = if index.is_multiple_of(2) { Way::Receive } else { Way::Send };
        let mut ring = Ring::new(&memory, layout, base, way, features)?;
        if way == Way::Receive {
            // Nobody waits for a receiver's kick, unless the sender is to be paced by it.
            ring.hush();
        }
        self.port().features.store(features, Ordering::Relaxed);
        let kicks_before = kick.as_ref().map_or(0, |kick| pending(kick));
        let mergeable = features & 1 << VIRTIO_NET_F_MRG_RXBUF != 0;
        let header = frame::header_len(features);
        let live = Live {
            ring,
            memory,
            features,
            header,
            mergeable,
            kick,
            call,
            error,
            kicks_before,
            starved: None,
            had: 0,
            asked: false,
        };
        self.set(index, Some(live));
        Ok(())
    }

    fn stop(&mut self, index: u16) -> Option<u32> {
        self.set(index, None).map(|live| live.ring.base())
    }
}
