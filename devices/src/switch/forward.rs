//! One batch: taken from a send queue, looked up, copied once into the receivers' buffers, given back.
//!
//! ```text
//!  take ≤ 64 chains ─► header and addresses of each ─► runs of frames for the same port
//!                                                        │ for each run, its receive ring held:
//!                                                        │   take as many buffers, copy, fill
//!  give the chains back ◄── publish, interrupt if wanted ◄┘   publish once, interrupt if wanted
//! ```
//!
//! With [`Full::Wait`] a frame for one receiver that has no buffer ends the batch: it and what follows
//! stay with the sender. So between two batches nothing is ever in flight.

use std::ops::Range;
use std::time::Instant;

use super::addressed::{Addressed, Frame, Target};
use super::counts::Counters;
use super::frame::Header;
use super::offload;
use super::port::{Full, Live, Port, Shared, Side};
use super::receiving::{NoPlace, Receiving};
use super::ring::Taken;
use crate::sys::bell::Bell;
use crate::sys::peer::Pieces;
use crate::virtio::ring::RingError;

/// Frames of one queue before others have their turn.
pub const BATCH: usize = 64;

/// What became of a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Frames taken.
    pub frames: usize,
    /// Others wait for a receiver.
    pub blocked: bool,
}

/// A worker's hands.
pub struct Forwarder {
    sent: Pieces,
    chains: Vec<Taken>,
    batch: Addressed,
    receiving: Receiving,
    bell: Bell,
}

impl Default for Forwarder {
    fn default() -> Forwarder {
        Forwarder {
            sent: Pieces::default(),
            chains: Vec::with_capacity(BATCH),
            batch: Addressed::default(),
            receiving: Receiving::default(),
            bell: Bell::default(),
        }
    }
}

impl Forwarder {
    /// Lets go of every peer's memory.
    pub fn forget(&mut self) {
        self.sent.reset(&Default::default());
        self.receiving.pieces.reset(&Default::default());
    }

    /// A turn of the send queue `pair` of port `from`. `now` in seconds, as the table has it.
    pub fn pass(&mut self, shared: &Shared, from: usize, pair: usize, now: u32) -> Passed {
        let port = &shared.ports[from];
        let side = &port.pairs[pair].send;
        let mut held = side.hold();
        let Some(live) = held.as_mut() else { return Passed::default() };
        self.sent.reset(&live.memory);
        self.chains.clear();
        if let Err(error) = live.ring.take(BATCH, &mut self.sent, &mut self.chains) {
            self.chains.clear();
            let broken = held.take();
            drop(held);
            fail(&mut self.bell, shared, port, side, broken, error);
            return Passed::default();
        }
        if self.chains.is_empty() {
            return Passed::default();
        }
        self.batch.read(shared, (from, live), &self.sent, &self.chains, now);
        let done = self.deliver_all(shared, from, pair, side);
        for chain in &self.chains[..done] {
            live.ring.fill(chain, 0);
        }
        live.ring.untake(&self.chains[done..]);
        let counters = &side.counters;
        if live.ring.publish() {
            signal(&mut self.bell, live, side);
        }
        let bytes: u64 = self.batch.frames[..done].iter().map(|frame| u64::from(frame.len)).sum();
        counters.chains.add(done as u64);
        counters.packets.add(done as u64);
        counters.bytes.add(bytes);
        counters.batch(done);
        if live.memory.gone() {
            lose_memory(port);
        }
        Passed { frames: done, blocked: done < self.chains.len() }
    }

    /// Delivers run by run; returns how many frames are done with.
    fn deliver_all(&mut self, shared: &Shared, from: usize, pair: usize, side: &Side) -> usize {
        let mut done = 0;
        while let Some(frame) = self.batch.frames.get(done) {
            let target = frame.to;
            let run = self.batch.frames[done..].iter().take_while(|frame| frame.to == target).count();
            let range = done..done + run;
            let counters = &side.counters;
            done += match target {
                Target::Port(port) => {
                    let patient = shared.full == Full::Wait;
                    match self.deliver(shared, usize::from(port), pair, range, patient) {
                        Some(delivered) if delivered < run => return done + delivered,
                        Some(_) => run,
                        None => {
                            counters.unknown_port.add(run as u64);
                            run
                        }
                    }
                }
                Target::Flood => {
                    let others = (0..shared.ports.len()).filter(|&port| port != from);
                    let reached = others
                        .filter(|&port| self.deliver(shared, port, pair, range.clone(), false).is_some())
                        .count();
                    if reached == 0 {
                        counters.unknown_port.add(run as u64);
                    }
                    run
                }
                Target::Nowhere => {
                    counters.unknown_port.add(run as u64);
                    run
                }
                Target::Malformed => {
                    counters.malformed.add(run as u64);
                    run
                }
                Target::TooLarge => {
                    counters.too_large.add(run as u64);
                    run
                }
            };
        }
        done
    }

    /// Copies a run into the buffers of one port; returns how many frames are done with, which is all
    /// unless `patient`. `None` where the port has no queue that runs.
    fn deliver(
        &mut self,
        shared: &Shared,
        to: usize,
        pair: usize,
        run: Range<usize>,
        patient: bool,
    ) -> Option<usize> {
        let port = &shared.ports[to];
        let side = &port.pairs[port.receive_queue(pair)?].receive;
        let mut held = side.hold();
        let live = held.as_mut()?;
        let frames = &self.batch.frames[run];
        let (mut done, mut bytes, mut packets) = (0, 0, 0);
        let counters = &side.counters;
        let mut broken = self.receiving.begin(live, frames.iter().map(|frame| frame.len)).err();
        let mut waits = false;
        for frame in frames {
            if broken.is_some() {
                break;
            }
            match place(&mut self.receiving, live, &self.sent, frame, counters) {
                Ok(count) => {
                    bytes += u64::from(frame.len);
                    packets += count;
                }
                Err(NoPlace::TooLarge) => counters.too_large.add(1),
                Err(NoPlace::NoBuffer) if patient && live.worth_waiting() => {
                    waits = true;
                    break;
                }
                Err(NoPlace::NoBuffer) => counters.no_buffer.add(1),
                Err(NoPlace::Broken(error)) => broken = Some(error),
            }
            done += 1;
        }
        let used = self.receiving.finish(live);
        if used > 0 {
            live.received();
        }
        if used > 0 && waits {
            // It has taken something, and starves anew.
            live.starved = Some(Instant::now());
        }
        if live.ring.publish() {
            signal(&mut self.bell, live, side);
        }
        counters.chains.add(used as u64);
        counters.packets.add(packets);
        counters.bytes.add(bytes);
        counters.batch(packets as usize);
        let gone = live.memory.gone();
        if let Some(error) = broken {
            let broken = held.take();
            drop(held);
            fail(&mut self.bell, shared, port, side, broken, error);
            return Some(frames.len());
        }
        if gone {
            lose_memory(port);
        }
        Some(done)
    }
}

/// A frame into the next buffers of a receiver, which may want less left to do than its sender left.
#[inline]
fn place(
    receiving: &mut Receiving,
    live: &mut Live,
    sent: &Pieces,
    frame: &Frame,
    counters: &Counters,
) -> Result<u64, NoPlace> {
    if frame.header == Header::default() || frame.header.accepted(live.features) {
        receiving.place(live, &frame.header, &[], sent, frame.start, frame.len)
    } else {
        let work = offload::Work { header: frame.header, start: frame.start, len: frame.len };
        work.place(receiving, live, sent, counters)
    }
}

fn signal(bell: &mut Bell, live: &Live, side: &Side) {
    if let Some(call) = &live.call {
        bell.ring(call);
        side.counters.interrupts.add(1);
    }
}

/// A ring makes no sense: it is served no more until its peer sets it up again.
fn fail(bell: &mut Bell, shared: &Shared, port: &Port, side: &Side, broken: Option<Live>, error: RingError) {
    if let Some(event) = broken.as_ref().and_then(|live| live.error.as_ref()) {
        bell.ring(event);
    }
    // Where its memory has gone, that is the reason for all else.
    match broken.as_ref().is_some_and(|live| live.memory.gone()) {
        true => lose_memory(port),
        false => port.complain(&error),
    }
    side.stopped(broken);
    port.count_receivers();
    shared.changed();
}

fn lose_memory(port: &Port) {
    port.complain(&"its memory's file was cut short while in use");
    port.hang_up();
}
