//! Many requests at once, by io_uring: a batch is submitted by one system call and its completions
//! are collected by none.
//!
//! With O_DIRECT the kernel pins the pages of each transfer. Where guest memory is all there from the start
//! (`--prefault`), it is registered instead, and pinned once: 4 KiB random reads at depth 32 then take some
//! 10 % less system time. Otherwise that would populate, and lock, what the guest may never touch; and what
//! is copied from the page cache gains nothing by it.

use std::io;
use std::os::fd::{AsFd, RawFd};
use std::sync::Arc;
use std::time::Instant;

use super::QUEUE_SIZE;
use super::image::{Image, ImageError};
use super::request::{self, Answer, Op, Request};
use super::sync::{self, execute, finish};
use crate::sys::segments::Segments;
use crate::sys::uring::{Landed, Transfer, Uring};
use crate::virtio::chain::Chain;
use crate::virtio::queue::Queue;
use crate::virtio::rate::Throttle;
use crate::virtio::ring::RingError;
use crate::virtio::tally::{Shared, Tally};
use crate::virtio::userspace::Server;

/// Whether this host gives us an io_uring.
pub fn check(image: &Image) -> Result<(), ImageError> {
    let made = Uring::<()>::new(1, image.as_fd());
    made.map(drop).map_err(|source| ImageError::Uring { path: image.path().into(), source })
}

/// Serves one queue.
pub struct Disk {
    image: Arc<Image>,
    /// Guest memory is all there, so that pinning it takes nothing more from the host.
    resident: bool,
    tally: Tally,
    shared: Shared,
    throttle: Throttle,
    flight: Option<Flight>,
}

/// From DRIVER_OK to reset.
struct Flight {
    uring: Uring<Pending>,
    chain: Chain,
    /// Storage to be used again.
    spare: Vec<Segments>,
}

/// A request whose transfer is in flight.
struct Pending {
    head: u16,
    request: Request,
    status: Segments,
    start: Instant,
}

impl Disk {
    pub fn new(image: Arc<Image>, shared: Shared, resident: bool, throttle: Throttle) -> Disk {
        Disk { image, resident, tally: Tally::default(), shared, throttle, flight: None }
    }

    /// Takes what the driver has made available, and starts or does it. Returns how much it was.
    fn take(&mut self, queue: &mut Queue) -> Result<usize, RingError> {
        let Some(flight) = &mut self.flight else { return Ok(0) };
        // One look at the clock for all that are there by now: each has waited since, whoever comes first.
        let (mut taken, mut now) = (0, None);
        while flight.uring.flying() < QUEUE_SIZE.into() && queue.ring().take(&mut flight.chain)? {
            if !self.throttle.admits(&queue.resources.counters) {
                queue.ring().untake(1);
                break;
            }
            taken += 1;
            let start = *now.get_or_insert_with(Instant::now);
            let mut status = flight.spare();
            let request = match request::parse(&mut flight.chain, &mut status, self.image.limits()) {
                Ok(request) => request,
                Err(answer) => {
                    let served = finish(None, answer, &mut status, start.elapsed(), &mut self.tally);
                    queue.finish(flight.chain.head, served);
                    flight.spare.push(status);
                    continue;
                }
            };
            self.throttle.charge(request.len);
            let pending = Pending { head: flight.chain.head, request, status, start };
            let rest = match transfer(&self.image, &request, &flight.chain) {
                Some(what) => flight.start(what, pending),
                None => Some(pending),
            };
            if let Some(mut pending) = rest {
                let answer = execute(&self.image, &request, &mut flight.chain);
                let took = start.elapsed();
                let served = finish(Some(request), answer, &mut pending.status, took, &mut self.tally);
                queue.finish(pending.head, served);
                flight.spare.push(pending.status);
            }
        }
        Ok(taken)
    }

    /// Gives back what has landed. Returns how much it was.
    fn land(&mut self, queue: &mut Queue) -> usize {
        let Some(flight) = &mut self.flight else { return 0 };
        // And one for all that are done.
        let (mut landed, mut now) = (0, None);
        while let Some(Landed { mut segments, tag: mut pending, result }) = flight.uring.land() {
            landed += 1;
            let answer = conclude(&self.image, &pending.request, &mut segments, result);
            let took = now.get_or_insert_with(Instant::now).saturating_duration_since(pending.start);
            let served = finish(Some(pending.request), answer, &mut pending.status, took, &mut self.tally);
            queue.finish(pending.head, served);
            flight.spare.extend([segments, pending.status]);
        }
        landed
    }
}

/// What the guest is told. Of a transfer that has stopped half way the rest is tried at once: it says why.
fn conclude(image: &Image, request: &Request, segments: &mut Segments, result: io::Result<usize>) -> Answer {
    let result = match (result, request.op) {
        (Ok(count), Op::Read | Op::Write) if count as u64 != request.len => {
            segments.skip(count);
            let offset = request.offset + count as u64;
            if request.op == Op::Read {
                sync::read(image, offset, segments)
            } else {
                sync::write(image, offset, segments)
            }
        }
        (result, _) => result.map(drop),
    };
    match result {
        Ok(()) => Answer::Ok,
        Err(error) => {
            image.failed(request, &error);
            Answer::IoError
        }
    }
}

/// The transfer for a request, where io_uring does it; `None`: at once, as the sync engine does.
fn transfer(image: &Image, request: &Request, chain: &Chain) -> Option<Transfer> {
    /// IOV_MAX.
    const MOST: usize = 1024;
    let fits = |data: &Segments| {
        !data.is_empty()
            && data.iovecs().len() <= MOST
            && image.direct().is_none_or(|align| data.aligned(align))
    };
    match request.op {
        Op::Read if fits(&chain.writable) => Some(Transfer::Read),
        Op::Write if fits(&chain.readable) => Some(Transfer::Write),
        Op::Flush => Some(Transfer::Flush),
        _ => None,
    }
}

impl Flight {
    fn spare(&mut self) -> Segments {
        self.spare.pop().unwrap_or_else(|| self.chain.readable.empty())
    }

    /// Pushes a transfer with the chain's data, which the ring owns until it lands. Gives the request
    /// back where the ring is full, the data still in the chain.
    fn start(&mut self, what: Transfer, pending: Pending) -> Option<Pending> {
        let spare = self.spare();
        let data = match what {
            Transfer::Read => &mut self.chain.writable,
            Transfer::Write | Transfer::Flush => &mut self.chain.readable,
        };
        let segments = std::mem::replace(data, spare);
        let offset = pending.request.offset;
        let (segments, pending) = self.uring.push(what, segments, offset, pending).err()?;
        let spare = std::mem::replace(data, segments);
        self.spare.push(spare);
        Some(pending)
    }
}

impl Server for Disk {
    fn begin(&mut self, queues: &mut [Queue], _: u64) -> io::Result<()> {
        let [queue] = queues else { return Ok(()) };
        let mut uring = Uring::new(QUEUE_SIZE, self.image.as_fd())?;
        if self.resident && self.image.direct().is_some() {
            // Where the host doesn't let us lock so much memory, each transfer pins its own.
            let _ = uring.register(&queue.resources.memory);
        }
        let chain = Chain::new(&queue.resources.memory);
        self.flight = Some(Flight { uring, chain, spare: Vec::new() });
        Ok(())
    }

    fn watch(&self) -> Vec<RawFd> {
        self.flight.iter().map(|flight| flight.uring.fd()).collect()
    }

    fn serve(&mut self, queues: &mut [Queue], _: bool) -> Result<bool, RingError> {
        let [queue] = queues else { return Ok(false) };
        let mut done = self.land(queue);
        let taken = self.take(queue);
        if let Some(flight) = &mut self.flight
            && let Err(error) = flight.uring.submit()
        {
            queue.resources.fault.raise(&format_args!("submit to io_uring: {error}"));
        }
        // What is in the page cache has landed already.
        done += self.land(queue);
        queue.settle();
        Ok(taken? + done > 0)
    }

    fn awaits_kick(&self, _: u16) -> bool {
        !self.throttle.is_shut()
    }

    fn closes(&self, _: u64, _: u64) -> bool {
        self.flight.as_ref().is_none_or(|flight| flight.uring.flying() <= 1)
    }

    fn nap(&self) -> Option<i32> {
        self.throttle.nap()
    }

    fn end(&mut self, _: &mut [Queue]) {
        // Waits for what is in flight.
        self.flight = None;
        self.shared.hand_over(&mut self.tally);
    }
}
