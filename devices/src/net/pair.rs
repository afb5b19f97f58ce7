//! One receive and one send queue on a thread; the first pair has the control queue too.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use virtio_bindings::virtio_net::*;

use super::HEADER;
use super::control::{Control, Pairs};
use super::face::Face;
use super::filter::Filter;
use super::held::Held;
use super::pace::Pace;
use super::receive::Receive;
use super::send::Send;
use super::tap::Tap;
use crate::say::say;
use crate::sys::link::Changes;
use crate::virtio::queue::Queue;
use crate::virtio::rate::{Limiter, Throttle};
use crate::virtio::ring::RingError;
use crate::virtio::tally::{Shared, Tally};
use crate::virtio::userspace::Server;

/// The longest frame that segmentation offload makes: 64 KiB and an Ethernet header.
const LONGEST_OFFLOADED: usize = HEADER + 65_550;
/// An Ethernet header with a VLAN tag.
const ETHERNET: usize = 18;
/// The MTU where it is not known.
const MTU: u16 = 1500;

/// Serves a queue pair.
pub struct Pair {
    tap: Arc<Tap>,
    pair: u16,
    acked: u64,
    receive: Option<Receive>,
    held: Held,
    pace: Pace,
    face: Arc<Face>,
    /// As it was at this change of [`Face`].
    filter: (u32, Filter),
    tally: Tally,
    shared: Shared,
    /// Of the host's interfaces; the first pair watches them.
    changes: Option<Changes>,
    /// What the receive and the send queue may do.
    throttles: [Throttle; 2],
}

impl Pair {
    pub fn new(tap: Arc<Tap>, pair: u16, face: Arc<Face>, shared: Shared) -> Pair {
        let filter = (face.changes(), face.filter());
        Pair {
            tap,
            pair,
            acked: 0,
            receive: None,
            held: Held::default(),
            pace: Pace::default(),
            face,
            filter,
            tally: Tally::default(),
            shared,
            changes: None,
            throttles: Default::default(),
        }
    }

    /// One that does no more in a second than this lets it.
    pub fn limited(mut self, limiter: &Option<Arc<Limiter>>) -> Pair {
        self.throttles = [Throttle::new(limiter), Throttle::new(limiter)];
        self
    }

    /// One of a card that is another process's.
    #[cfg(test)]
    pub fn elsewhere(tap: Arc<Tap>, pair: u16) -> Pair {
        Pair::new(tap, pair, Arc::new(Face::new([0; 6], true)), Shared::new(&[]))
    }

    /// The tap has failed.
    fn tell(&self, error: &io::Error, queues: &[Queue]) {
        // tun(4) has no device behind this file any more.
        let gone = error.raw_os_error() == Some(libc::EBADFD);
        if self.face.is_news(error) {
            let then =
                if gone { "it is gone, and the guest's link is down" } else { "further ones are counted" };
            say(format_args!("tap {}: {error}; {then}", self.tap.name()));
        }
        if let (true, Some(queue)) = (gone && self.face.lose(), queues.first()) {
            queue.resources.fault.config_changed();
        }
    }

    fn role(&self, index: u16) -> Role {
        // §5.1.2: without MQ there is one pair, and the control queue follows it.
        let many = self.acked & 1 << VIRTIO_NET_F_MQ != 0;
        let control = if many { 2 * self.tap.pairs() } else { 2 };
        match index {
            _ if index == control => Role::Control,
            _ if index / 2 != self.pair => Role::None,
            _ if index.is_multiple_of(2) => Role::Receive,
            _ => Role::Send,
        }
    }

    /// Sends what is there, then looks what has come in.
    fn exchange(
        &self,
        receive: &mut Receive,
        (held, pace): (&mut Held, &mut Pace),
        tally: &mut Tally,
        file: &File,
        [receives, sends]: &mut [Throttle; 2],
        queues: &mut [Queue],
    ) -> Result<bool, RingError> {
        let mut done = 0;
        for queue in queues.iter_mut() {
            match self.role(queue.resources.index) {
                Role::Send => {
                    let before = queue.resources.counters.bytes.get();
                    let began = Instant::now();
                    let sent = queue.drain_quietly(&mut Send { tap: file, tally, since: None }, sends)?;
                    if sent > 0 {
                        let bytes = queue.resources.counters.bytes.get() - before;
                        let now = Instant::now();
                        held.add(sent, bytes, queue.ring().size(), now);
                        pace.sent(sent, bytes, began, now);
                    }
                    // A stream's acknowledgements are there by the time it is sent.
                    receive.ready |= sent > 0;
                    done += sent as usize;
                }
                Role::Control => {
                    let (pairs, face) = (self.tap.as_ref(), Some(self.face.as_ref()));
                    done += queue.drain(&mut Control { pairs, face, acked: self.acked })? as usize;
                }
                Role::Receive | Role::None => {}
            }
        }
        for queue in queues.iter_mut() {
            if let Role::Receive = self.role(queue.resources.index) {
                let came = receive.serve(file, queue, &self.filter.1, tally, receives)?;
                if came > 0 {
                    held.answered(Instant::now());
                }
                done += came;
            }
        }
        if held.owed() && held.due(Instant::now()) {
            let sends = |queue: &&mut Queue| matches!(self.role(queue.resources.index), Role::Send);
            queues.iter_mut().filter(sends).for_each(Queue::settle);
        }
        Ok(done > 0)
    }
}

enum Role {
    Receive,
    Send,
    Control,
    None,
}

impl Server for Pair {
    fn begin(&mut self, queues: &mut [Queue], acked: u64) -> io::Result<()> {
        self.acked = acked;
        let has = |bit: u32| acked & 1 << bit != 0;
        if self.pair == 0 {
            self.tap.set_offload(acked)?;
            self.tap.attach(1)?;
            // Without it the link stays what it is now.
            self.changes = Changes::open().ok();
            self.look_aside(queues);
        }
        let offloaded = has(VIRTIO_NET_F_GUEST_TSO4) || has(VIRTIO_NET_F_GUEST_TSO6);
        let frame = HEADER + ETHERNET + usize::from(self.tap.mtu().unwrap_or(MTU));
        let longest = if offloaded { LONGEST_OFFLOADED } else { frame };
        let memory = queues.first().map(|queue| queue.resources.memory.clone());
        self.receive = memory.map(|memory| Receive::new(&memory, longest, has(VIRTIO_NET_F_MRG_RXBUF)));
        Ok(())
    }

    fn watch(&self) -> Vec<RawFd> {
        self.tap.queue(self.pair).map(AsRawFd::as_raw_fd).into_iter().collect()
    }

    fn aside(&self) -> Option<RawFd> {
        self.changes.as_ref().map(Changes::fd)
    }

    fn look_aside(&mut self, queues: &mut [Queue]) {
        self.changes.iter().for_each(Changes::take);
        if let (true, Some(queue)) = (self.face.set_up(self.tap.is_up()), queues.first()) {
            queue.resources.fault.config_changed();
        }
    }

    fn serve(&mut self, queues: &mut [Queue], woken: bool) -> Result<bool, RingError> {
        let (Some(mut receive), Some(file)) = (self.receive.take(), self.tap.queue(self.pair)) else {
            return Ok(false);
        };
        receive.ready |= woken;
        let changes = self.face.changes();
        if changes != self.filter.0 {
            self.filter = (changes, self.face.filter());
        }
        let (mut held, mut tally) = (std::mem::take(&mut self.held), std::mem::take(&mut self.tally));
        let mut pace = std::mem::take(&mut self.pace);
        let mut throttles = std::mem::take(&mut self.throttles);
        let result =
            self.exchange(&mut receive, (&mut held, &mut pace), &mut tally, file, &mut throttles, queues);
        self.throttles = throttles;
        if let Some(error) = receive.error.take() {
            self.tell(&error, queues);
        }
        (self.receive, self.held, self.tally, self.pace) = (Some(receive), held, tally, pace);
        result
    }

    fn awaits_kick(&self, queue: u16) -> bool {
        match self.role(queue) {
            Role::Receive => self.receive.as_ref().is_some_and(|receive| receive.starved),
            Role::Send => !self.throttles[1].is_shut(),
            Role::Control => true,
            Role::None => false,
        }
    }

    /// A question goes out, an answer comes in: a small frame each.
    fn closes(&self, chains: u64, bytes: u64) -> bool {
        chains <= 2 && bytes <= u64::from(MTU)
    }

    fn away(&mut self) -> Option<Duration> {
        self.pace.wait()
    }

    fn nap(&self) -> Option<i32> {
        let naps = self.throttles.iter().filter_map(Throttle::nap);
        naps.chain(self.held.nap()).min()
    }

    fn end(&mut self, _: &mut [Queue]) {
        (self.receive, self.held, self.changes) = (None, Held::default(), None);
        if self.pair == 0 {
            self.face.reset();
        }
        self.shared.hand_over(&mut self.tally);
    }
}
