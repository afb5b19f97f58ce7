//! What a worker of [`userspace`](super::userspace) calls: how a device serves its queues.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use super::queue::{ChainHandler, Queue};
use super::rate::Throttle;
use super::ring::RingError;

/// Serves some queues of one device, on one thread.
pub trait Server: Send {
    /// Descriptors, other than kicks, whose readiness means work. Watched edge-triggered.
    fn watch(&self) -> Vec<RawFd> {
        Vec::new()
    }

    /// A descriptor whose readiness is rare, and no work of a queue. Watched edge-triggered, from
    /// [`Server::begin`] on.
    fn aside(&self) -> Option<RawFd> {
        None
    }

    /// What [`Server::aside`] has reported.
    fn look_aside(&mut self, queues: &mut [Queue]) {
        let _ = queues;
    }

    /// The driver is ready, under these features.
    fn begin(&mut self, queues: &mut [Queue], acked: u64) -> io::Result<()> {
        let _ = (queues, acked);
        Ok(())
    }

    /// Serves what is there, a bounded amount; `woken` if a watched descriptor may have something: it
    /// has reported, or is being polled. Returns whether anything was done.
    fn serve(&mut self, queues: &mut [Queue], woken: bool) -> Result<bool, RingError>;

    /// True if new buffers in this queue are work. False where they are only wanted later (a receive
    /// queue that has enough): then the driver is not asked to kick.
    fn awaits_kick(&self, queue: u16) -> bool {
        let _ = queue;
        true
    }

    /// Whether a driver that has had so many chains served, of so many bytes, since its worker slept, may be
    /// waiting for just that: not in the middle of a stream, and with nothing under way but that.
    fn closes(&self, chains: u64, bytes: u64) -> bool {
        let _ = (chains, bytes);
        true
    }

    /// How long the worker shall leave its queues alone, kicks hushed, before it looks again: `None` where it
    /// asks for kicks at once. Asked when there is nothing left to serve.
    fn away(&mut self) -> Option<Duration> {
        None
    }

    /// The longest that the worker may sleep before it serves again, in milliseconds; `None`: until
    /// there is work.
    fn nap(&self) -> Option<i32> {
        None
    }

    /// Stops; nothing may touch guest memory afterwards.
    fn end(&mut self, queues: &mut [Queue]) {
        let _ = queues;
    }
}

/// A server that needs to see one chain at a time only.
pub struct EachChain<H> {
    handler: H,
    throttle: Throttle,
}

impl<H> EachChain<H> {
    pub fn new(handler: H, throttle: Throttle) -> EachChain<H> {
        EachChain { handler, throttle }
    }
}

impl<H: ChainHandler> Server for EachChain<H> {
    fn serve(&mut self, queues: &mut [Queue], _: bool) -> Result<bool, RingError> {
        let mut served = 0;
        for queue in queues {
            served += queue.drain_at(&mut self.handler, &mut self.throttle)?;
        }
        Ok(served > 0)
    }

    fn awaits_kick(&self, _: u16) -> bool {
        !self.throttle.is_shut()
    }

    fn nap(&self) -> Option<i32> {
        self.throttle.nap()
    }

    fn end(&mut self, _: &mut [Queue]) {
        self.handler.end();
    }
}

/// Some queues and what serves them: one worker thread.
pub struct Group {
    pub queues: Vec<u16>,
    pub server: Box<dyn Server>,
}
