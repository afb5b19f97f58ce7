//! A batch of frames: what each says of itself, and where it goes.

use super::forward::BATCH;
use super::frame::{ETHERNET, HEADER, Header, LONGEST};
use super::port::{Live, Shared};
use super::ring::Taken;
use super::table::Mac;
use crate::sys::peer::{Cursor, Pieces};

/// What a frame is, and where it goes.
#[derive(Clone, Copy)]
pub struct Frame {
    pub header: Header,
    /// Behind the virtio header.
    pub start: Cursor,
    pub len: u32,
    pub to: Target,
}

/// Where a frame goes, or why nowhere.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Port(u8),
    /// All others.
    Flood,
    Nowhere,
    Malformed,
    TooLarge,
}

/// The frames of the last batch.
pub struct Addressed {
    pub frames: Vec<Frame>,
    last: Option<(Flow, Target)>,
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

impl Default for Addressed {
    fn default() -> Addressed {
        Addressed { frames: Vec::with_capacity(BATCH), last: None }
    }
}

impl Addressed {
    /// Reads what each frame of a batch says of itself, and finds where it goes. `sender` is the ring they
    /// come from, of port `from`; `now` in seconds, as the table has it.
    pub fn read(
        &mut self,
        shared: &Shared,
        (from, sender): (usize, &Live),
        sent: &Pieces,
        chains: &[Taken],
        now: u32,
    ) {
        self.frames.clear();
        chains.iter().for_each(|chain| sent.prefetch(chain.first, sender.header));
        let generation = shared.table.generation();
        for chain in chains {
            let len = chain.len.saturating_sub(sender.header as u32);
            let mut frame =
                Frame { header: Header::default(), start: chain.start(), len, to: Target::Malformed };
            let addresses = match sender.header {
                HEADER => first::<HEADER>(sent, &mut frame, sender.features),
                _ => first::<{ HEADER - 2 }>(sent, &mut frame, sender.features),
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
