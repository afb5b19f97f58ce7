//! Frames from the tap straight into the guest's buffers.
//!
//! How long the next frame is can't be known before it is read, and what does not fit is lost. So as
//! many buffers are held as the longest frame takes, one `readv` fills them, and those that it did not
//! reach are kept for the next frame. With mergeable buffers (virtio 1.2 §5.1.6.4) all that a frame
//! took are published at once, and the header says how many.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::time::Instant;

use super::filter::{Filter, Mac};
use super::{HEADER, RECEIVE, UNWANTED, would_block};
use crate::sys::Memory;
use crate::sys::file::{read_some, readable};
use crate::sys::segments::Segments;
use crate::virtio::chain::Chain;
use crate::virtio::queue::Queue;
use crate::virtio::rate::Throttle;
use crate::virtio::ring::RingError;
use crate::virtio::tally::Tally;

/// Frames served before other queues have their turn.
const BUDGET: usize = 64;
/// Where `num_buffers` is in the header.
const NUM_BUFFERS: usize = 10;

/// What a receive queue holds from frame to frame.
pub struct Receive {
    /// Buffers that the driver has made available, next first.
    held: VecDeque<Chain>,
    /// Bytes in them.
    room: usize,
    spare: Vec<Chain>,
    gather: Segments,
    memory: Memory,
    /// Room that the longest frame takes, header included.
    longest: usize,
    mergeable: bool,
    /// The tap may have more.
    pub ready: bool,
    /// The tap may have more, and there is no room for it: the driver's kick is awaited.
    pub starved: bool,
    /// The tap failed, and nobody was told yet.
    pub error: Option<io::Error>,
}

impl Receive {
    /// A queue with buffers in `memory`; `mergeable` as negotiated.
    pub fn new(memory: &Memory, longest: usize, mergeable: bool) -> Receive {
        Receive {
            held: VecDeque::new(),
            room: 0,
            spare: Vec::new(),
            gather: Segments::new(memory),
            memory: memory.clone(),
            longest,
            mergeable,
            ready: true,
            starved: false,
            error: None,
        }
    }

    /// Moves frames until the tap is empty, buffers run out or others must have their turn. Returns
    /// how many.
    pub fn serve(
        &mut self,
        tap: &File,
        queue: &mut Queue,
        filter: &Filter,
        tally: &mut Tally,
        throttle: &mut Throttle,
    ) -> Result<usize, RingError> {
        let mut frames = 0;
        let mut since = Instant::now();
        while self.ready && frames < BUDGET {
            self.hold(queue)?;
            self.starved = !self.enough() && self.held.len() < queue.ring().size().into();
            if self.starved {
                break;
            }
            if throttle.limits() {
                // A frame that is not there waits for nothing.
                self.ready = readable(tap);
                if !self.ready || !throttle.admits(&queue.resources.counters) {
                    break;
                }
            }
            match read_some(tap.as_fd(), self.gather()) {
                Ok(len) => {
                    let wanted = filter.wants(self.destination());
                    if wanted {
                        self.give(queue, len);
                    }
                    let now = Instant::now();
                    let (kind, bytes) = (if wanted { RECEIVE } else { UNWANTED }, len.saturating_sub(HEADER));
                    throttle.charge(bytes as u64);
                    tally.record(kind, bytes as u64, false, now - since);
                    since = now;
                }
                Err(error) => {
                    self.ready = false;
                    if !would_block(&error) {
                        queue.resources.counters.errors.add(1);
                        tally.record(RECEIVE, 0, true, since.elapsed());
                        self.error = Some(error);
                    }
                }
            }
            frames += usize::from(self.ready);
        }
        queue.settle();
        Ok(frames)
    }

    /// Takes buffers until the longest frame would fit.
    fn hold(&mut self, queue: &mut Queue) -> Result<(), RingError> {
        while !self.enough() {
            let mut chain = self.spare.pop().unwrap_or_else(|| Chain::new(&self.memory));
            if !queue.ring().take(&mut chain)? {
                self.spare.push(chain);
                return Ok(());
            }
            // Too short for a header: no frame can start there, and none can go on.
            if chain.writable.len() < HEADER {
                queue.give(chain.head, 0, 0);
                self.spare.push(chain);
                continue;
            }
            self.room += chain.writable.len();
            self.held.push_back(chain);
        }
        Ok(())
    }

    /// The longest frame fits what is held; without mergeable buffers one must do.
    fn enough(&self) -> bool {
        if self.mergeable { self.room >= self.longest } else { !self.held.is_empty() }
    }

    fn gather(&mut self) -> &Segments {
        self.gather.clear();
        let count = if self.mergeable { self.held.len() } else { 1 };
        for chain in self.held.iter().take(count) {
            self.gather.append(&chain.writable);
        }
        &self.gather
    }

    /// Whom the frame that was just read is for: its first bytes (IEEE 802.3).
    fn destination(&self) -> Mac {
        let mut mac = Mac::default();
        self.gather.peek(HEADER, &mut mac);
        mac
    }

    /// Gives back the buffers that `len` bytes have filled.
    fn give(&mut self, queue: &mut Queue, len: usize) {
        let (mut count, mut room) = (0_u16, 0);
        for chain in &self.held {
            count += 1;
            room += chain.writable.len();
            if room >= len {
                break;
            }
        }
        if let Some(first) = self.held.front_mut() {
            first.writable.poke(NUM_BUFFERS, &count.to_le_bytes());
        }
        let mut rest = len;
        for _ in 0..count {
            let Some(chain) = self.held.pop_front() else { break };
            let here = chain.writable.len().min(rest);
            rest -= here;
            self.room -= chain.writable.len();
            queue.ring().fill(chain.head, here as u32);
            self.spare.push(chain);
        }
        queue.ring().publish();
        queue.resources.counters.chains.add(count.into());
        queue.resources.counters.bytes.add(len.saturating_sub(HEADER) as u64);
    }
}
