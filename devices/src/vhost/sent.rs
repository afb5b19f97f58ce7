//! When a driver is told that vhost has sent its frames.
//!
//! It only wants its buffers back, and takes them by itself whenever a frame comes in (Linux's does): one
//! interrupt then does for both ([`net::held`](crate::net::held) says the same of a worker's). vhost doesn't
//! know that, and raises two. So what it says of sent frames comes to a thread here first, which looks at the
//! rings a moment later, and raises the interrupt where the driver has not taken its buffers meanwhile. That is
//! one look in a few milliseconds, however many frames there are, and none where there are none. What it sees of
//! the rings then tells [`busy`](super::busy) how many messages came.
//!
//! ```text
//!           vhost says that frames were sent, and
//!   held ─┬─ frames have come in since it last did ──► look in a moment: taken ─► held
//!         └─ none have ──► the driver is told                       └ not taken ─► told
//!           told too often in a row
//!   held ───────────────────────────► direct: vhost tells the guest by itself
//!        ◄───────────────────────────
//!           frames come in, or none are sent any more; longer each time it was in vain
//! ```

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::busy::{Busy, Messages};
use crate::sys::socket::{self, Ready};
use crate::sys::vhost::Vhost;
use crate::sys::window::Window;
use crate::virtio::backend::QueueResources;
use crate::virtio::chain::Chain;
use crate::virtio::counters::{Counters, ThreadCounts, cpu_ns};
use crate::virtio::interrupt::Line;
use crate::virtio::ring::Ring;
use crate::virtio::userspace::Entered;

/// How long the driver is not told, at first and where it has taken its buffers by itself each time.
const SHORT: Duration = Duration::from_millis(2);
const LONG: Duration = Duration::from_millis(8);
/// So often in a row it had to be told all the same.
const VAIN: u32 = 4;
/// How long vhost tells the guest by itself, the first time and at most.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(3);
/// The thread's calls are few and shallow.
const STACK: usize = 64 << 10;

/// Whether it pays: pure.
#[derive(Debug)]
struct Rule {
    /// Times in a row that the driver had to be told.
    vain: u32,
    wait: Duration,
    direct: Duration,
}

impl Rule {
    fn new() -> Rule {
        Rule { vain: 0, wait: SHORT, direct: FIRST }
    }

    /// The driver had to be told, or has taken its buffers by itself. Returns for how long vhost is to tell it.
    fn looked(&mut self, told: bool) -> Option<Duration> {
        if !told {
            *self = Rule { wait: (self.wait * 2).min(LONG), ..Rule::new() };
            return None;
        }
        self.wait = SHORT;
        self.vain += 1;
        if self.vain < VAIN {
            return None;
        }
        let direct = self.direct;
        (self.vain, self.direct) = (0, (direct * 2).min(LONGEST));
        Some(direct)
    }
}

/// A ring, as far as its indices say who waits for whom.
struct Indices {
    available: Window,
    used: Window,
    size: u16,
}

impl Indices {
    fn of(queue: &QueueResources) -> Option<Indices> {
        let [_, available, used] = queue.layout.resolve(&queue.memory).ok()?;
        Some(Indices { available, used, size: queue.layout.size })
    }

    fn used(&self) -> u16 {
        self.used.load(2, Ordering::Acquire)
    }

    /// `used_event` (virtio 1.2 §2.7.7), where that entry is used: the driver has asked to be told, and waits.
    fn awaited(&self) -> Option<u16> {
        let event = self.available.load(4 + 2 * usize::from(self.size), Ordering::Relaxed);
        (self.used().wrapping_sub(event).wrapping_sub(1) < self.size).then_some(event)
    }
}

/// How long frames are, by one of them now and then: it is read where vhost has read it.
struct Frames {
    ring: Ring,
    chain: Chain,
}

impl Frames {
    fn of(queue: &QueueResources) -> Option<Frames> {
        let ring = Ring::new(&queue.memory, queue.layout, true, true).ok()?;
        Some(Frames { ring, chain: Chain::new(&queue.memory) })
    }

    /// Bytes of the one before this entry; 0 where the driver has something else there by now.
    fn before(&mut self, entry: u16) -> u64 {
        self.ring.begin_at(entry.wrapping_sub(1));
        if let Ok(true) = self.ring.take(&mut self.chain) { self.chain.bytes() } else { 0 }
    }
}

/// Makes vhost tell the guest by itself, or this thread.
type Direct = Box<dyn Fn(bool) -> io::Result<()> + Send>;

/// What the thread looks at.
struct Between {
    send: Indices,
    receive: Indices,
    /// By vhost: frames were sent.
    said: Arc<EventFd>,
    call: Line,
    counters: Arc<Counters>,
    direct: Direct,
    /// How long vhost looks for more, where nobody has said.
    busy: Option<(Busy, Frames)>,
    stop: Arc<EventFd>,
}

/// The machine stops, or the driver resets the card.
struct Stopped;

impl Between {
    fn run(mut self) {
        let mut busy = self.busy.take();
        let Stopped = self.watch(busy.as_mut());
        // Nothing that was said is lost.
        if self.heard() || self.send.awaited().is_some() {
            self.call.signal();
        }
    }

    fn watch(&self, mut busy: Option<&mut (Busy, Frames)>) -> Stopped {
        let mut rule = Rule::new();
        let (mut sent, mut received) = (self.send.used(), self.receive.used());
        loop {
            if let Err(stopped) = self.listen() {
                return stopped;
            }
            // For as long as there is something every time, it need not be woken.
            while self.heard() {
                let awaited = self.send.awaited();
                let came = self.receive.used();
                let went = self.send.used();
                let answered = came != received;
                if let Some((busy, frames)) = &mut busy {
                    let more = Messages {
                        sent: went.wrapping_sub(sent).into(),
                        received: came.wrapping_sub(received).into(),
                        bytes: frames.before(went),
                    };
                    let looked = busy.came(more, Instant::now());
                    self.counters.looked_ns.add(looked.as_nanos() as u64);
                }
                (sent, received) = (went, came);
                if answered {
                    let measured = busy.as_mut().and_then(|(busy, _)| busy.sleeps());
                    if let Err(stopped) = self.nap(rule.wait) {
                        return stopped;
                    }
                    if let Some((busy, _)) = &mut busy {
                        busy.woken(measured);
                    }
                }
                // What was asked for meanwhile is another matter, of which vhost speaks then.
                let told = awaited.is_some() && self.send.awaited() == awaited;
                if told {
                    self.call.signal();
                    self.counters.interrupts.add(1);
                }
                if let Some(time) = rule.looked(told) {
                    if let Some((busy, _)) = &mut busy {
                        self.counters.looked_ns.add(busy.rests(Instant::now()).as_nanos() as u64);
                    }
                    if let Err(stopped) = self.stand_aside(time) {
                        return stopped;
                    }
                }
            }
        }
    }

    /// Lets vhost tell the guest by itself, until frames come in or none are sent any more.
    fn stand_aside(&self, time: Duration) -> Result<(), Stopped> {
        if (self.direct)(true).is_err() {
            // Then it goes on as it is.
            return Ok(());
        }
        if self.heard() {
            self.call.signal();
        }
        loop {
            let before = (self.send.used(), self.receive.used());
            self.nap(time)?;
            let now = (self.send.used(), self.receive.used());
            if now.0 == before.0 || now.1 != before.1 {
                break;
            }
        }
        // Where it is refused, vhost goes on telling the guest.
        let _ = (self.direct)(false);
        Ok(())
    }

    /// Whether vhost has said something since the last time.
    fn heard(&self) -> bool {
        self.said.read().is_ok()
    }

    /// Sleeps until it does.
    fn listen(&self) -> Result<(), Stopped> {
        let fds = [socket::event(&self.said), socket::event(&self.stop)];
        match socket::wait_any(fds, Ready::Read, None) {
            Ok([_, false]) => Ok(()),
            _ => Err(Stopped),
        }
    }

    fn nap(&self, time: Duration) -> Result<(), Stopped> {
        match socket::wait(socket::event(&self.stop), Ready::Read, Some(time)) {
            Ok(false) => Ok(()),
            _ => Err(Stopped),
        }
    }
}

/// The thread, for a queue pair.
pub struct Sent {
    name: String,
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<Option<u64>>>,
}

impl Sent {
    /// Comes between vhost and the interrupt of `send`, whose number there is `index`; `name` is the device's. None
    /// where that interrupt is nobody's.
    pub fn start(
        name: &str,
        (vhost, index): (&Arc<Vhost>, u32),
        send: &QueueResources,
        receive: &QueueResources,
        adaptive: bool,
        entered: &Entered,
    ) -> io::Result<Option<Sent>> {
        let (Some(ours), Some(theirs)) = (Indices::of(send), Indices::of(receive)) else { return Ok(None) };
        if !send.call.reaches() || send.call.event().is_none() {
            return Ok(None);
        }
        let said = Arc::new(EventFd::new(EFD_NONBLOCK)?);
        let (both, call, here) = (vhost.clone(), send.call.clone(), said.clone());
        let set = Box::new(move |time: Duration| {
            let us = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
            [index ^ 1, index].into_iter().try_for_each(|ring| both.set_busy_poll(ring, us))
        });
        let busy = Frames::of(send).filter(|_| adaptive).map(|frames| (Busy::new(set), frames));
        let vhost = vhost.clone();
        let direct: Direct = Box::new(move |direct| {
            let to = if direct { call.event() } else { Some(here.as_ref()) };
            vhost.set_call(index, to)
        });
        direct(false)?;
        let between = Between {
            send: ours,
            receive: theirs,
            said,
            call: send.call.clone(),
            counters: send.counters.clone(),
            direct,
            busy,
            stop: Arc::new(EventFd::new(EFD_NONBLOCK)?),
        };
        Sent::spawn(name, between, entered.clone()).map(Some)
    }

    fn spawn(device: &str, between: Between, entered: Entered) -> io::Result<Sent> {
        let (device, stop) = (format!("{device}.sent"), between.stop.clone());
        let name = device.replace('.', "");
        let thread = Builder::new().name(name.clone()).stack_size(STACK).spawn(move || {
            entered(&device, 0);
            between.run();
            cpu_ns("thread-self")
        })?;
        Ok(Sent { name, stop, thread: Some(thread) })
    }

    /// Ends it, once vhost no longer serves the queues. Returns what it has cost.
    pub fn stop(mut self) -> ThreadCounts {
        let cpu_ns = self.end();
        ThreadCounts { name: std::mem::take(&mut self.name), cpu_ns }
    }

    fn end(&mut self) -> Option<u64> {
        // Full only if it was written before: then it wakes all the same.
        let _ = self.stop.write(1);
        // One that panicked has printed why.
        self.thread.take().and_then(|thread| thread.join().ok()).flatten()
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests;
