//! A port: the rings that its peer has handed over, each behind its own lock. A worker holds a lock for
//! a batch; whoever changes a ring (the port's own thread) waits for that long and no longer.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::EventFd;

use super::counts::{Counters, Counts};
use super::ring::Ring;
use super::table::Table;
use crate::sys::peer::PeerMemory;
use crate::virtio::counters::pending;

/// Queue pairs of a port at most.
pub const PAIRS: u16 = 16;
/// How long a receiver without buffers is waited for before it counts as stalled, and loses frames.
///
/// A machine that runs has its turn within far less, however many share its CPU.
const PATIENCE: Duration = Duration::from_secs(1);

/// What happens to a frame whose receiver has no buffer for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Full {
    /// It is dropped, and counted.
    #[default]
    Drop,
    /// It stays with its sender, which is paced by it; until the receiver has taken nothing for a second:
    /// then it counts as stalled, and its frames are dropped until it takes one.
    Wait,
}

/// What all threads of a switch share.
pub struct Shared {
    pub ports: Vec<Port>,
    pub table: Table,
    pub full: Full,
    /// Counts what was started or stopped: workers look for their rings again.
    changes: AtomicU32,
    /// Wakes each worker.
    pub wake: Vec<EventFd>,
    pub stop: AtomicBool,
}

impl Shared {
    pub fn new(ports: Vec<Port>, table: Table, full: Full, wake: Vec<EventFd>) -> Shared {
        Shared { ports, table, full, changes: AtomicU32::new(0), wake, stop: AtomicBool::new(false) }
    }

    /// How often something was started or stopped.
    #[inline]
    pub fn changes(&self) -> u32 {
        self.changes.load(Ordering::Acquire)
    }

    /// Workers shall look for their rings.
    pub fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Release);
        for wake in &self.wake {
            // Full only if it was written before: then it wakes all the same.
            let _ = wake.write(1);
        }
    }
}

/// One port, with or without a peer.
pub struct Port {
    /// Its socket's path.
    pub name: String,
    pub pairs: Vec<Pair>,
    /// Receive queues that run, from the first on.
    receivers: AtomicU16,
    pub connections: AtomicU64,
    pub features: AtomicU64,
    connection: Mutex<Option<UnixStream>>,
    /// What its peers did wrong; the first is said aloud.
    pub errors: AtomicU64,
    pub last_error: Mutex<Option<String>>,
}

/// Its receive and its send queue of one number.
#[derive(Default)]
pub struct Pair {
    pub receive: Side,
    pub send: Side,
}

/// A ring's place, which outlives its peers.
#[derive(Default)]
pub struct Side {
    live: Mutex<Option<Live>>,
    running: AtomicBool,
    pub counters: Counters,
}

/// A ring that runs.
pub struct Live {
    pub ring: Ring,
    pub memory: Arc<PeerMemory>,
    pub features: u64,
    /// Bytes before each frame.
    pub header: usize,
    /// Frames may take several buffers.
    pub mergeable: bool,
    pub kick: Option<Arc<EventFd>>,
    pub call: Option<Arc<EventFd>>,
    pub error: Option<Arc<EventFd>>,
    /// Kicks that the fd had counted before this ring had it.
    pub kicks_before: u64,
    /// Without enough buffers since then.
    pub starved: Option<Instant>,
    /// Descriptors that it had then, and which were not enough.
    pub had: u16,
    /// It was asked for a kick when it has some.
    pub asked: bool,
}

impl Live {
    /// True where a sender shall wait for it rather than lose a frame.
    pub fn worth_waiting(&mut self) -> bool {
        self.starved.get_or_insert_with(Instant::now).elapsed() < PATIENCE
    }

    /// Asks one without enough buffers for a kick when it has a few; true if it has them by now.
    pub fn ask(&mut self) -> bool {
        if self.starved.is_none() {
            return false;
        }
        self.asked = true;
        let more = self.ring.listen_for_few(self.had);
        if more {
            self.received();
        }
        more
    }

    /// It has buffers again.
    pub fn received(&mut self) {
        self.starved = None;
        if std::mem::take(&mut self.asked) {
            self.ring.hush();
        }
    }

    fn kicks(&self) -> u64 {
        self.kick.as_ref().map_or(0, |kick| pending(kick).saturating_sub(self.kicks_before))
    }
}

impl Side {
    /// The ring, held.
    pub fn hold(&self) -> MutexGuard<'_, Option<Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True while it has a ring.
    pub fn runs(&self) -> bool {
        self.running.load(Ordering::Relaxed)
    }

    /// Puts a ring there, or takes it away; returns the one before.
    pub fn set(&self, live: Option<Live>) -> Option<Live> {
        let mut held = self.hold();
        self.running.store(live.is_some(), Ordering::Relaxed);
        let before = std::mem::replace(&mut *held, live);
        self.count_kicks(before.as_ref());
        before
    }

    /// Its ring was taken away while it was held.
    pub fn stopped(&self, ring: Option<Live>) {
        self.running.store(false, Ordering::Relaxed);
        self.count_kicks(ring.as_ref());
    }

    fn count_kicks(&self, ring: Option<&Live>) {
        if let Some(live) = ring {
            self.counters.kicks.add(live.kicks());
        }
    }

    /// What it did so far.
    pub fn counts(&self) -> Counts {
        let kicks = self.hold().as_ref().map_or(0, Live::kicks);
        self.counters.snapshot(kicks)
    }
}

impl Port {
    pub fn new(name: String) -> Port {
        Port {
            name,
            pairs: (0..PAIRS).map(|_| Pair::default()).collect(),
            receivers: AtomicU16::new(0),
            connections: AtomicU64::new(0),
            features: AtomicU64::new(0),
            connection: Mutex::new(None),
            errors: AtomicU64::new(0),
            last_error: Mutex::new(None),
        }
    }

    /// The ring of a queue index as virtio numbers them: receive, send, receive, send, …
    pub fn side(&self, index: u16) -> Option<&Side> {
        let pair = self.pairs.get(usize::from(index / 2))?;
        Some(if index.is_multiple_of(2) { &pair.receive } else { &pair.send })
    }

    /// The receive queue for what a peer sends on queue `pair`: a flow, which its sender keeps on one
    /// queue, stays in order. `None` where none runs.
    #[inline]
    pub fn receive_queue(&self, pair: usize) -> Option<usize> {
        match usize::from(self.receivers.load(Ordering::Relaxed)) {
            0 => None,
            count if pair < count => Some(pair),
            count => Some(pair % count),
        }
    }

    /// Counts its receive queues again, after one was started or stopped.
    pub fn count_receivers(&self) {
        let count = self.pairs.iter().take_while(|pair| pair.receive.runs()).count();
        self.receivers.store(count as u16, Ordering::Relaxed);
    }

    /// A peer has come (`Some`) or gone.
    pub fn set_connection(&self, stream: Option<UnixStream>) {
        self.connections.fetch_add(stream.is_some().into(), Ordering::Relaxed);
        *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = stream;
    }

    /// True while it has a peer.
    pub fn connected(&self) -> bool {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Ends the connection; the port's own thread does the rest.
    pub fn hang_up(&self) {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stream) = connection.as_ref() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Notes what its peer did wrong: every time in the count, once aloud.
    pub fn complain(&self, what: &dyn std::fmt::Display) {
        // Whoever sees the count sees what it counts.
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(what.to_string());
        if self.errors.fetch_add(1, Ordering::Release) == 0 {
            eprintln!("vmm: port {}: {what}; what follows is counted only", self.name);
        }
    }
}
