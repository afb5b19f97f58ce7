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

use super::counts::Counters;
use super::frame::{ETHERNET, HEADER, Header, LONGEST};
use super::offload;
use super::port::{Full, Live, Port, Shared, Side};
use super::ring::Taken;
use super::table::Mac;
use crate::sys::bell::Bell;
use crate::sys::peer::{Cursor, Pieces};
use crate::virtio::ring::RingError;

/// Frames of one queue before others have their turn.
pub const BATCH: usize = 64;

/// What a frame is, and where it goes.
#[derive(Clone, Copy)]
struct Frame {
    header: Header,
    /// Behind the virtio header.
    start: Cursor,
    len: u32,
    to: Target,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Port(u8),
    /// All others.
    Flood,
    Nowhere,
    Malformed,
    TooLarge,
}

/// The last answer, good for as long as nothing moves: most frames are like the one before.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Flow {
    to: Mac,
    from: Mac,
    port: u8,
    generation: u32,
    now: u32,
}

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
    frames: Vec<Frame>,
    last: Option<(Flow, Target)>,
    receiving: Receiving,
    bell: Bell,
}

/// The receiver's buffers for a run.
#[derive(Default)]
pub(super) struct Receiving {
    pieces: Pieces,
    buffers: Vec<Taken>,
    /// Buffers that are filled already.
    used: usize,
}

/// Why a frame has no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPlace {
    NoBuffer,
    TooLarge,
    Broken(RingError),
}

impl From<RingError> for NoPlace {
    fn from(error: RingError) -> NoPlace {
        NoPlace::Broken(error)
    }
}

impl Default for Forwarder {
    fn default() -> Forwarder {
        Forwarder {
            sent: Pieces::default(),
            chains: Vec::with_capacity(BATCH),
            frames: Vec::with_capacity(BATCH),
            last: None,
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
        self.look_up(shared, from, live, now);
        let done = self.deliver_all(shared, from, pair, side);
        for chain in &self.chains[..done] {
            live.ring.fill(chain, 0);
        }
        live.ring.untake(&self.chains[done..]);
        let counters = &side.counters;
        if live.ring.publish() {
            signal(&mut self.bell, live, side);
        }
        let bytes: u64 = self.frames[..done].iter().map(|frame| u64::from(frame.len)).sum();
        counters.chains.add(done as u64);
        counters.packets.add(done as u64);
        counters.bytes.add(bytes);
        counters.batch(done);
        if live.memory.gone() {
            lose_memory(port);
        }
        Passed { frames: done, blocked: done < self.chains.len() }
    }

    /// Reads what each frame says of itself, and finds where it goes.
    fn look_up(&mut self, shared: &Shared, from: usize, live: &Live, now: u32) {
        self.frames.clear();
        self.chains.iter().for_each(|chain| self.sent.prefetch(chain.first));
        let generation = shared.table.generation();
        for chain in &self.chains {
            let len = chain.len.saturating_sub(live.header as u32);
            let mut frame =
                Frame { header: Header::default(), start: chain.start(), len, to: Target::Malformed };
            let addresses = match live.header {
                HEADER => first::<HEADER>(&self.sent, &mut frame, live.features),
                _ => first::<{ HEADER - 2 }>(&self.sent, &mut frame, live.features),
            };
            if let Some((to, source)) = addresses {
                let flow = Flow { to, from: source, port: from as u8, generation, now };
                frame.to = match self.last {
                    _ if len > LONGEST => Target::TooLarge,
                    Some((last, target)) if last == flow => target,
                    _ => {
                        let target = find(shared, &flow);
                        self.last = Some((flow, target));
                        target
                    }
                };
            }
            self.frames.push(frame);
        }
    }

    /// Delivers run by run; returns how many frames are done with.
    fn deliver_all(&mut self, shared: &Shared, from: usize, pair: usize, side: &Side) -> usize {
        let mut done = 0;
        while let Some(frame) = self.frames.get(done) {
            let target = frame.to;
            let run = self.frames[done..].iter().take_while(|frame| frame.to == target).count();
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
        let frames = &self.frames[run];
        let (mut done, mut bytes, mut packets) = (0, 0, 0);
        let counters = &side.counters;
        let mut broken = self.receiving.begin(live, frames.len()).err();
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

/// Reads the virtio header of `H` bytes, and the two addresses; the frame's own header and start are
/// filled in. `None` where the frame is too short or its header wrong.
#[inline]
fn first<const H: usize>(sent: &Pieces, frame: &mut Frame, features: u64) -> Option<(Mac, Mac)> {
    if (frame.len as usize) < ETHERNET {
        return None;
    }
    let (low, high, to, from) = sent.start::<H>(frame.start)?;
    sent.skip(&mut frame.start, H);
    frame.header = Header::decode((low, high), features, frame.len)?;
    Some((Mac::new(to), Mac::new(from)))
}

/// Learns the sender, finds the receiver.
fn find(shared: &Shared, flow: &Flow) -> Target {
    shared.table.learn(flow.from, flow.port, flow.now);
    let known = if flow.to.is_group() { None } else { shared.table.find(flow.to, flow.now) };
    match known {
        Some(port) if port == flow.port => Target::Nowhere,
        Some(port) => Target::Port(port),
        // Of two ports there is one other, whoever is meant: a switch of two can wait, too.
        None if shared.ports.len() == 2 => Target::Port(1 - flow.port),
        None => Target::Flood,
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

impl Receiving {
    fn begin(&mut self, live: &mut Live, count: usize) -> Result<(), RingError> {
        self.pieces.reset(&live.memory);
        self.buffers.clear();
        self.used = 0;
        live.ring.take(count, &mut self.pieces, &mut self.buffers).map(drop)?;
        self.buffers.iter().for_each(|buffer| self.pieces.prefetch_write(buffer.first));
        Ok(())
    }

    /// Puts a frame into the next buffers: `prefix`, then `len` bytes less the prefix from `start`.
    /// Returns how many frames that makes: 1.
    #[inline]
    pub(super) fn place(
        &mut self,
        live: &mut Live,
        header: &Header,
        prefix: &[u8],
        sent: &Pieces,
        start: Cursor,
        len: u32,
    ) -> Result<u64, NoPlace> {
        let need = len + live.header as u32;
        let count = self.room(live, need)?;
        let buffers = &self.buffers[self.used..self.used + count];
        let mut at = buffers[0].start();
        let header = header.encode(count as u16);
        match live.header {
            HEADER => self.pieces.put_header::<HEADER>(&mut at, header),
            _ => self.pieces.put_header::<{ HEADER - 2 }>(&mut at, header),
        }
        self.pieces.write(&mut at, prefix);
        sent.copy_to(&mut { start }, &self.pieces, &mut at, len as usize - prefix.len());
        let mut rest = need;
        for buffer in buffers {
            let here = buffer.len.min(rest);
            live.ring.fill(buffer, here);
            rest -= here;
        }
        self.used += count;
        Ok(1)
    }

    /// How many of the next buffers hold `need` bytes.
    #[inline]
    fn room(&mut self, live: &mut Live, need: u32) -> Result<usize, NoPlace> {
        match self.buffers.get(self.used) {
            Some(buffer) if buffer.len >= need => Ok(1),
            _ => self.more_room(live, need),
        }
    }

    #[cold]
    fn more_room(&mut self, live: &mut Live, need: u32) -> Result<usize, NoPlace> {
        let (mut count, mut room) = (0, 0_u64);
        while room < need.into() {
            if self.used + count == self.buffers.len()
                && live.ring.take(1, &mut self.pieces, &mut self.buffers)? == 0
            {
                let all = count == usize::from(live.ring.size());
                return Err(if all { NoPlace::TooLarge } else { NoPlace::NoBuffer });
            }
            room += u64::from(self.buffers[self.used + count].len);
            count += 1;
            if !live.mergeable && room < need.into() {
                return Err(NoPlace::TooLarge);
            }
        }
        Ok(count)
    }

    /// The last frame placed: its buffers' bytes from behind the virtio header on.
    pub(super) fn placed(&self, first: usize, header: usize) -> (&Pieces, Cursor) {
        let mut at = self.buffers[first].start();
        self.pieces.skip(&mut at, header);
        (&self.pieces, at)
    }

    /// Buffers that are filled so far.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    fn finish(&mut self, live: &mut Live) -> usize {
        let left = &self.buffers[self.used..];
        live.had = left.iter().map(|buffer| buffer.span).sum();
        live.ring.untake(left);
        self.used
    }
}
