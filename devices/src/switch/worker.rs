//! A worker: the send queues that fall to it, in turn, for as long as frames come.
//!
//! ```text
//!        ┌───────────── a turn for every queue ◄───────────────┐
//!        │ nothing moved                                       │ something moved
//!        ▼                                                     │
//!   poll for as long as asked ── something ────────────────────┤
//!        │ (by naps, where the CPU is crowded)                 │
//!        │ time is up                                          │
//!        ▼                                                     │
//!   listen: ask for kicks, look once more ── something ────────┤
//!        │                                                     │
//!        ▼                                                     │
//!   sleep in epoll ── a kick, or a port came or went ──────────┘
//! ```
//!
//! Each turn is bounded and begins one queue further, so that no sender can keep others waiting. Kick
//! fds are edge-triggered and never read: what their peers do to them can't hold a worker up.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

use super::forward::{Forwarder, Passed};
use super::port::{Full, Live, Shared};
use crate::sys::turns;
use crate::virtio::counters::Count;
use crate::virtio::crowd::Crowd;

/// How long a worker sleeps at most while a sender waits for a receiver.
const BLOCKED_MS: i32 = 1;

/// What a worker did.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerCounters {
    /// Nanoseconds in rounds that moved frames.
    pub busy_ns: AtomicU64,
    pub rounds: Count,
    pub empty_rounds: Count,
    pub naps: Count,
    pub sleeps: Count,
}

/// One thread of the switch.
pub struct Worker {
    pub number: usize,
    pub shared: Arc<Shared>,
    pub busy_poll: Duration,
    pub born: Instant,
    pub counters: Arc<WorkerCounters>,
}

/// A send queue: port and pair.
type Source = (usize, usize);

impl Worker {
    /// Serves until the switch stops.
    pub fn run(self) -> io::Result<()> {
        let mut forwarder = Forwarder::default();
        // Without it they are only longer.
        let _ = turns::wake_on_time();
        while !self.stopped() {
            let changes = self.shared.changes();
            forwarder.forget();
            let (sources, watch) = self.look_around()?;
            let epoll = self.watch(&watch)?;
            self.serve(&mut forwarder, &sources, &epoll, changes)?;
        }
        Ok(())
    }

    fn stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Acquire)
    }

    /// The send queues that run and fall to this worker, and what can wake it.
    fn look_around(&self) -> io::Result<(Vec<Source>, Vec<Arc<EventFd>>)> {
        let (mut sources, mut kicks) = (Vec::new(), Vec::new());
        let workers = self.shared.wake.len();
        for (p, port) in self.shared.ports.iter().enumerate() {
            for (q, pair) in port.pairs.iter().enumerate() {
                let mut add = |side: &super::port::Side| {
                    let held = side.hold();
                    let kick = held.as_ref().and_then(|live| live.kick.clone());
                    kicks.extend(kick);
                    held.is_some()
                };
                if (p + q) % workers == self.number && add(&pair.send) {
                    sources.push((p, q));
                }
                if self.shared.full == Full::Wait {
                    add(&pair.receive);
                }
            }
        }
        Ok((sources, kicks))
    }

    fn watch(&self, kicks: &[Arc<EventFd>]) -> io::Result<Epoll> {
        let epoll = Epoll::new()?;
        let wake = &self.shared.wake[self.number];
        epoll.ctl(ControlOperation::Add, wake.as_raw_fd(), EpollEvent::new(EventSet::IN, WAKE))?;
        for kick in kicks {
            let event = EpollEvent::new(EventSet::IN | EventSet::EDGE_TRIGGERED, KICK);
            match epoll.ctl(ControlOperation::Add, kick.as_raw_fd(), event) {
                // A peer may use one fd for all its rings: it is watched already.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                result => result?,
            }
        }
        Ok(epoll)
    }

    /// Until something is started or stopped.
    fn serve(
        &self,
        forwarder: &mut Forwarder,
        sources: &[Source],
        epoll: &Epoll,
        changes: u32,
    ) -> io::Result<()> {
        self.each(sources, |ring| ring.hush());
        let (mut idle_since, mut last) = (None, Instant::now());
        let mut crowd = Crowd::new(last, turns::lost());
        let mut turn = 0;
        while self.shared.changes() == changes && !self.stopped() {
            let now = last.duration_since(self.born).as_secs() as u32;
            let passed = round(forwarder, &self.shared, sources, turn, now);
            turn += 1;
            self.counters.rounds.add(1);
            let end = Instant::now();
            crowd.look(end, turns::lost);
            if passed.frames > 0 {
                let busy = end.duration_since(last).as_nanos() as u64;
                self.counters
                    .busy_ns
                    .store(self.counters.busy_ns.load(Ordering::Relaxed) + busy, Ordering::Relaxed);
                (last, idle_since) = (end, None);
                continue;
            }
            self.counters.empty_rounds.add(1);
            last = end;
            let idle = end.duration_since(*idle_since.get_or_insert(end));
            if idle < self.busy_poll {
                if let Some(nap) = crowd.nap(end, idle) {
                    self.counters.naps.add(1);
                    turns::nap(nap);
                    last = Instant::now();
                    crowd.slept(last);
                } else {
                    std::hint::spin_loop();
                }
                continue;
            }
            let sent = self.each(sources, |ring| ring.listen());
            // What is blocked was sent and can't be taken.
            let (more, timeout) =
                if passed.blocked { (self.ask_receivers(), BLOCKED_MS) } else { (sent, -1) };
            if !more {
                self.sleep(epoll, timeout)?;
            }
            self.each(sources, |ring| ring.hush());
            (last, idle_since) = (Instant::now(), None);
            crowd.slept(last);
        }
        Ok(())
    }

    /// Asks those for kicks that others wait for; true if one of them has buffers by now.
    fn ask_receivers(&self) -> bool {
        let pairs = self.shared.ports.iter().flat_map(|port| &port.pairs);
        let receivers = pairs.map(|pair| &pair.receive).filter(|side| side.runs());
        receivers.fold(false, |more, side| more | side.hold().as_mut().is_some_and(Live::ask))
    }

    /// True if `act` said so of any.
    fn each<T: Into<Any>>(
        &self,
        sources: &[Source],
        mut act: impl FnMut(&mut super::ring::Ring) -> T,
    ) -> bool {
        let mut any = false;
        for &(port, pair) in sources {
            if let Some(live) = self.shared.ports[port].pairs[pair].send.hold().as_mut() {
                any |= act(&mut live.ring).into().0;
            }
        }
        any
    }

    fn sleep(&self, epoll: &Epoll, timeout_ms: i32) -> io::Result<()> {
        self.counters.sleeps.add(1);
        let mut events = [EpollEvent::default(); 8];
        match epoll.wait(timeout_ms, &mut events) {
            Ok(count) => {
                if events[..count].iter().any(|event| event.data() == WAKE) {
                    // It only wakes; what changed is in `changes`.
                    let _ = self.shared.wake[self.number].read();
                }
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Tokens in epoll.
const KICK: u64 = 0;
const WAKE: u64 = 1;

/// A yes, or nothing.
struct Any(bool);

impl From<()> for Any {
    fn from((): ()) -> Any {
        Any(false)
    }
}

impl From<bool> for Any {
    fn from(yes: bool) -> Any {
        Any(yes)
    }
}

/// A turn for every source, beginning with a different one each time.
fn round(forwarder: &mut Forwarder, shared: &Shared, sources: &[Source], turn: usize, now: u32) -> Passed {
    let mut all = Passed::default();
    let (late, early) = sources.split_at(turn.checked_rem(sources.len()).unwrap_or(0));
    for &(port, pair) in early.iter().chain(late) {
        let passed = forwarder.pass(shared, port, pair, now);
        all.frames += passed.frames;
        all.blocked |= passed.blocked;
    }
    all
}
