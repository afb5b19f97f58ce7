//! The one ring loop, and what serves through it.

use super::backend::QueueResources;
use super::chain::Chain;
use super::rate::Throttle;
use super::ring::{Ring, RingError};

/// A queue as its serving thread holds it.
pub struct Queue {
    pub resources: QueueResources,
    ring: Ring,
    /// Storage for the chain in hand.
    chain: Option<Chain>,
}

/// What became of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// Done; so many bytes of the writable half were filled, so many bytes of payload moved.
    Done { written: u32, payload: u64 },
    /// The same, but the guest was told that it failed.
    Failed { written: u32 },
    /// Not now: nothing to give. The chain stays where it is.
    Wait,
}

/// What a queue means, one chain at a time: no fd, no thread, no KVM.
pub trait ChainHandler: Send {
    /// Serves one chain of queue `queue`.
    fn handle(&mut self, queue: u16, chain: &mut Chain) -> Served;

    /// The queues stop.
    fn end(&mut self) {}
}

impl Queue {
    /// Resolves the rings.
    pub fn new(
        resources: QueueResources,
        indirect: bool,
        event_idx: bool,
    ) -> Result<Queue, (QueueResources, RingError)> {
        match Ring::new(&resources.memory, resources.layout, indirect, event_idx) {
            Ok(mut ring) => {
                ring.begin_at(resources.base);
                let chain = Some(Chain::new(&resources.memory));
                Ok(Queue { resources, ring, chain })
            }
            Err(error) => Err((resources, error)),
        }
    }

    /// What it was made of, to go on elsewhere.
    pub fn into_resources(mut self) -> QueueResources {
        self.resources.base = self.ring.next_available();
        self.resources
    }

    /// The ring, for a server that holds several chains at once.
    pub fn ring(&mut self) -> &mut Ring {
        &mut self.ring
    }

    /// Serves what is there, at most one ring's worth, with one interrupt at the end.
    /// Returns how many chains were served.
    pub fn drain(&mut self, handler: &mut dyn ChainHandler) -> Result<u32, RingError> {
        self.drain_at(handler, &mut Throttle::default())
    }

    /// The same, as fast as `throttle` lets it.
    pub fn drain_at(
        &mut self,
        handler: &mut dyn ChainHandler,
        throttle: &mut Throttle,
    ) -> Result<u32, RingError> {
        let result = self.drain_quietly(handler, throttle);
        self.settle();
        result
    }

    /// The same without the interrupt, which the caller owes.
    pub fn drain_quietly(
        &mut self,
        handler: &mut dyn ChainHandler,
        throttle: &mut Throttle,
    ) -> Result<u32, RingError> {
        let Some(mut chain) = self.chain.take() else { return Ok(0) };
        let result = self.drain_into(&mut chain, handler, throttle);
        self.chain = Some(chain);
        result
    }

    fn drain_into(
        &mut self,
        chain: &mut Chain,
        handler: &mut dyn ChainHandler,
        throttle: &mut Throttle,
    ) -> Result<u32, RingError> {
        let mut served = 0;
        for _ in 0..self.ring.size() {
            if !self.ring.take(chain)? {
                break;
            }
            if !throttle.admits(&self.resources.counters) {
                self.ring.untake(1);
                break;
            }
            let outcome = handler.handle(self.resources.index, chain);
            if outcome == Served::Wait {
                self.ring.untake(1);
                break;
            }
            if let Served::Done { payload, .. } = outcome {
                throttle.charge(payload);
            }
            self.finish(chain.head, outcome);
            served += 1;
        }
        Ok(served)
    }

    /// Gives a chain back as `served` says, and counts it.
    pub fn finish(&mut self, head: u16, served: Served) {
        match served {
            Served::Done { written, payload } => self.give(head, written, payload),
            Served::Failed { written } => {
                self.resources.counters.errors.add(1);
                self.give(head, written, 0);
            }
            Served::Wait => {}
        }
    }

    /// Gives a chain back and counts it.
    pub fn give(&mut self, head: u16, written: u32, payload: u64) {
        self.ring.give(head, written);
        self.resources.counters.chains.add(1);
        self.resources.counters.bytes.add(payload);
    }

    /// Raises the interrupt if the driver wants one for what was given since last time.
    pub fn settle(&mut self) {
        // Of a queue that it polls the driver may still ask for one, with no vector to have it by.
        if self.ring.wants_interrupt() && self.resources.call.reaches() {
            self.resources.counters.interrupts.add(1);
            self.resources.call.signal();
        }
    }
}
