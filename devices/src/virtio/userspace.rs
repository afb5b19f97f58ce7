//! Queues served by threads of this process.
//!
//! ```text
//!        ┌───────────── serve: drain every queue, kicks hushed ◄───────────┐
//!        │ found nothing                                                   │ found something
//!        ▼                                                                 │
//!   poll for as long as asked, or as it pays ── found ─────────────────────┤
//!        │ time is up                                                      │
//!        ▼                                                                 │
//!   in the middle of a stream: stay away for a moment ─────────────────────┤
//!        │ else                                                            │
//!        ▼                                                                 │
//!   listen: ask for kicks, look once more ── found ────────────────────────┤
//!        │                                                                 │
//!        ▼                                                                 │
//!   sleep in epoll ── kick, another fd of the device, or an interrupt is due ┘
//! ```
//!
//! All fds are edge-triggered: a kick costs no read, and the kick fd's own count is the number of
//! kicks, which is taken when the worker stops.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};

use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::backend::{BackendError, DataPath, QueueBackend, QueueResources};
use super::beside::{Beside, Vcpu};
use super::counters::{ThreadCounts, cpu_ns};
pub use super::polling::BusyPoll;
use super::polling::Polling;
use super::queue::Queue;
use super::rate::Rate;
use super::ring::RingError;
pub use super::server::{EachChain, Group, Server};

/// How workers run; the machine's choice, the same for all of a device.
#[derive(Clone)]
pub struct Tuning {
    /// How long a worker polls before it sleeps.
    pub busy_poll: BusyPoll,
    /// Guest memory is populated before the start.
    pub resident: bool,
    /// What a device may do in a second.
    pub rate: Rate,
    /// Called for each thread before it serves: pins it, and confines it.
    pub entered: Entered,
    /// Called by each thread that keeps a connection to another process, before it does: confines it.
    pub keeps: Arc<dyn Fn() + Send + Sync>,
    /// Which vCPU a worker may follow.
    pub beside: Follows,
}

/// Takes the first queue of a worker; `None`: it follows no vCPU.
pub type Follows = Arc<dyn Fn(u16) -> Option<Box<dyn Vcpu>> + Send + Sync>;

/// Takes a device's name and the number of a thread that serves it; a worker calls it for itself, with 0.
pub type Entered = Arc<dyn Fn(&str, i32) + Send + Sync>;

impl Default for Tuning {
    fn default() -> Tuning {
        Tuning {
            busy_poll: BusyPoll::OFF,
            resident: false,
            rate: Rate::default(),
            entered: Arc::new(|_, _| ()),
            keeps: Arc::new(|| ()),
            beside: Arc::new(|_| None),
        }
    }
}

/// The backend: a thread for each group, from start to stop.
pub struct Userspace {
    name: String,
    features: u64,
    tuning: Tuning,
    idle: Vec<Group>,
    running: Vec<Running>,
    /// Of all workers that have ended.
    spent_ns: Option<u64>,
}

struct Running {
    stop: Arc<Stop>,
    thread: JoinHandle<Ended>,
}

/// What a worker leaves.
struct Ended {
    group: Group,
    queues: Vec<QueueResources>,
    cpu_ns: Option<u64>,
}

/// Asks a worker to leave: it looks at the flag between batches, and the fd wakes it.
struct Stop {
    asked: AtomicBool,
    wake: EventFd,
}

/// As --pin takes it, and the host shows it.
fn thread_name(device: &str) -> String {
    device.replace('.', "")
}

/// Workers are shallow: a request is a few frames deep.
const STACK: usize = 128 << 10;

impl Userspace {
    /// A backend for the device called `name` that can do `features`, with a worker for each group.
    pub fn new(name: &str, features: u64, groups: Vec<Group>, tuning: Tuning) -> Userspace {
        Userspace {
            name: name.into(),
            features,
            tuning,
            idle: groups,
            running: Vec::new(),
            spent_ns: Some(0),
        }
    }

    fn spawn(&mut self, group: Group, queues: Vec<QueueResources>, acked: u64) -> io::Result<()> {
        let stop = Arc::new(Stop { asked: AtomicBool::new(false), wake: EventFd::new(EFD_NONBLOCK)? });
        let worker =
            Worker { name: self.name.clone(), tuning: self.tuning.clone(), stop: stop.clone(), acked };
        let builder = Builder::new().name(thread_name(&self.name)).stack_size(STACK);
        let thread = builder.spawn(move || worker.run(group, queues))?;
        self.running.push(Running { stop, thread });
        Ok(())
    }
}

impl QueueBackend for Userspace {
    fn data_path(&self) -> DataPath {
        DataPath::Userspace
    }

    fn features(&self) -> u64 {
        self.features
    }

    fn start(&mut self, mut queues: Vec<QueueResources>, acked: u64) -> Result<(), BackendError> {
        for group in std::mem::take(&mut self.idle) {
            let (mine, rest): (Vec<_>, _) = queues.into_iter().partition(|q| group.queues.contains(&q.index));
            queues = rest;
            if mine.is_empty() {
                self.idle.push(group);
                continue;
            }
            self.spawn(group, mine, acked).map_err(|source| BackendError {
                deed: format!("start a worker of {}", self.name),
                source,
            })?;
        }
        Ok(())
    }

    /// One row for all: they are alike, and have ended.
    fn threads(&self) -> Vec<ThreadCounts> {
        vec![ThreadCounts { name: thread_name(&self.name), cpu_ns: self.spent_ns }]
    }

    fn stop(&mut self) -> Vec<QueueResources> {
        for running in &self.running {
            running.stop.asked.store(true, Ordering::Release);
            // Full only if it was written before: then it wakes all the same.
            let _ = running.stop.wake.write(1);
        }
        let mut all = Vec::new();
        for running in self.running.drain(..) {
            // A worker that panicked has printed why; its queues stay dead until the machine ends.
            if let Ok(Ended { group, queues, cpu_ns }) = running.thread.join() {
                self.idle.push(group);
                all.extend(queues);
                self.spent_ns = self.spent_ns.zip(cpu_ns).map(|(all, one)| all + one);
            }
        }
        all
    }
}

impl Drop for Userspace {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Worker {
    name: String,
    tuning: Tuning,
    stop: Arc<Stop>,
    acked: u64,
}

impl Worker {
    fn run(self, mut group: Group, resources: Vec<QueueResources>) -> Ended {
        (self.tuning.entered)(&self.name, 0);
        let has = |bit: u32| self.acked & (1 << bit) != 0;
        let (indirect, event_idx) = (has(VIRTIO_RING_F_INDIRECT_DESC), has(VIRTIO_RING_F_EVENT_IDX));
        let (mut queues, mut broken) = (Vec::new(), Vec::new());
        for resources in resources {
            match Queue::new(resources, indirect, event_idx) {
                Ok(queue) => queues.push(queue),
                Err((resources, error)) => {
                    resources.fault.raise(&format_args!("queue {}: {error}", resources.index));
                    broken.push(resources);
                }
            }
        }
        if broken.is_empty()
            && let Err(error) = self.serve(group.server.as_mut(), &mut queues)
            && let Some(queue) = queues.first()
        {
            queue.resources.fault.raise(&error);
        }
        let resources = broken.into_iter().chain(queues.into_iter().map(Queue::into_resources));
        let queues = resources.inspect(|r| r.counters.kicks.add(r.kick.read().unwrap_or(0))).collect();
        Ended { group, queues, cpu_ns: cpu_ns("thread-self") }
    }

    fn serve(&self, server: &mut dyn Server, queues: &mut [Queue]) -> io::Result<()> {
        server.begin(queues, self.acked)?;
        let epoll = self.watch(server, queues)?;
        let result = self.circle(server, queues, &epoll);
        server.end(queues);
        result
    }

    fn watch(&self, server: &dyn Server, queues: &[Queue]) -> io::Result<Epoll> {
        let epoll = Epoll::new()?;
        let add = |fd, token| {
            epoll.ctl(
                ControlOperation::Add,
                fd,
                EpollEvent::new(EventSet::IN | EventSet::EDGE_TRIGGERED, token),
            )
        };
        add(self.stop.wake.as_raw_fd(), KICK)?;
        for queue in queues {
            add(queue.resources.kick.as_raw_fd(), KICK)?;
        }
        for fd in server.watch() {
            add(fd, OTHER)?;
        }
        if let Some(fd) = server.aside() {
            add(fd, ASIDE)?;
        }
        Ok(epoll)
    }

    fn circle(&self, server: &mut dyn Server, queues: &mut [Queue], epoll: &Epoll) -> io::Result<()> {
        let mut beside = self.beside(queues);
        let mut polling = Polling::new(self.tuning.busy_poll);
        // What came before the worker did has no edge left to report.
        let mut woken = true;
        while !self.stop.asked.load(Ordering::Acquire) {
            queues.iter_mut().for_each(|queue| queue.ring().hush());
            let before = done(queues);
            // Who polls must not do so in a guest's way.
            let may = beside.as_ref().is_none_or(Beside::is_apart);
            match self.drain(server, queues, woken, (&mut polling, may)) {
                Ok(0) => {}
                Ok(rounds) => {
                    let (chains, bytes) = done(queues);
                    let (chains, bytes) = (chains - before.0, bytes - before.1);
                    // One thing at a time, or all at once: nothing came while it was served.
                    let closed = rounds == 1 || chains <= rounds.into();
                    let closed = closed && server.closes(chains, bytes);
                    if let (Some(beside), [queue, ..]) = (&mut beside, &*queues) {
                        beside.served(chains, closed, polling.pays(), &queue.resources.counters);
                    }
                }
                Err(error) => {
                    // Nothing is served until the driver resets the device.
                    fault(queues, &error);
                    while !self.stop.asked.load(Ordering::Acquire) {
                        wait(epoll, FOREVER)?;
                    }
                    return Ok(());
                }
            }
            if !polling.is_asked()
                && let Some(away) = server.away()
            {
                std::thread::sleep(away);
                polling.was_away();
                woken = true;
                continue;
            }
            let mut more = false;
            for queue in queues.iter_mut() {
                more |= server.awaits_kick(queue.resources.index) && queue.ring().listen();
            }
            let nap = beside.as_ref().and_then(Beside::nap).into_iter().chain(server.nap()).min();
            let nap = nap.unwrap_or(FOREVER);
            let reasons = match more {
                true => 1 << KICK,
                false => {
                    let measured = polling.sleeps();
                    let reasons = self.sleep(server, queues, epoll, nap)?;
                    polling.woken(reasons & (1 << KICK | 1 << OTHER) != 0, measured);
                    reasons
                }
            };
            woken = reasons & 1 << OTHER != 0;
            if let Some(beside) = &mut beside {
                beside.woken(reasons & 1 << KICK != 0);
            }
        }
        Ok(())
    }

    /// Its place beside a vCPU, where it may have one.
    fn beside(&self, queues: &[Queue]) -> Option<Beside> {
        let first = queues.iter().map(|queue| queue.resources.index).min()?;
        let vcpu = (self.tuning.beside)(first).filter(|_| self.tuning.busy_poll.asked().is_zero());
        vcpu.map(Beside::new)
    }

    /// Waits; returns the reasons, a bit for each token.
    fn sleep(
        &self,
        server: &mut dyn Server,
        queues: &mut [Queue],
        epoll: &Epoll,
        timeout_ms: i32,
    ) -> io::Result<u32> {
        let reasons = wait(epoll, timeout_ms)?;
        if reasons & 1 << ASIDE != 0 {
            server.look_aside(queues);
        }
        Ok(reasons)
    }

    /// Serves until nothing was found for as long as it polls, if it `may`. Returns how often something was.
    fn drain(
        &self,
        server: &mut dyn Server,
        queues: &mut [Queue],
        mut woken: bool,
        (polling, may): (&mut Polling, bool),
    ) -> Result<u32, RingError> {
        let (mut looks, mut rounds) = (false, 0_u32);
        let mut before = done(queues);
        while !self.stop.asked.load(Ordering::Acquire) {
            let found = server.serve(queues, woken)?;
            if let (Some(queue), true) = (queues.first(), looks) {
                let counters = &queue.resources.counters;
                if found { &counters.polls_found } else { &counters.polls_empty }.add(1);
            }
            if found {
                polling.found();
                (looks, woken) = (false, false);
                rounds = rounds.saturating_add(1);
                continue;
            }
            let single = || {
                let (chains, bytes) = done(queues);
                let (chains, bytes) = (chains - before.0, bytes - before.1);
                before = (chains + before.0, bytes + before.1);
                chains <= FEW && server.closes(chains, bytes)
            };
            looks = polling.looks_again(single, may);
            if !looks {
                return Ok(rounds);
            }
            std::hint::spin_loop();
            // A server's own look costs no more than a look at the descriptor.
            woken = true;
        }
        Ok(rounds)
    }
}

/// Chains of one thing: a question and its answer.
const FEW: u64 = 2;

/// Chains and bytes of all of these.
fn done(queues: &[Queue]) -> (u64, u64) {
    let counters = queues.iter().map(|queue| &queue.resources.counters);
    counters.fold((0, 0), |(chains, bytes), one| (chains + one.chains.get(), bytes + one.bytes.get()))
}

/// Tokens in epoll: what a wake-up means.
const KICK: u64 = 0;
const OTHER: u64 = 1;
const ASIDE: u64 = 2;
/// A timeout that never comes (epoll_wait(2)).
const FOREVER: i32 = -1;

/// Waits; returns the reasons, a bit for each token.
fn wait(epoll: &Epoll, timeout_ms: i32) -> io::Result<u32> {
    let mut events = [EpollEvent::default(); 8];
    match epoll.wait(timeout_ms, &mut events) {
        Ok(count) => Ok(events[..count].iter().fold(0, |reasons, event| reasons | 1 << event.data())),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
        Err(error) => Err(error),
    }
}

fn fault(queues: &[Queue], error: &RingError) {
    if let Some(queue) = queues.first() {
        queue.resources.fault.raise(error);
    }
}
