//! Datagrams one way (to a sink) or both (to a reflector): how many a second, at which side they are
//! counted, and what became of the rest.

use abi::record::Record;
use abi::workload::Spec;

use crate::platform::{Datagrams, Peer, Platform, Unavailable};
use crate::{Limit, Results};

/// Longest payload: an Ethernet frame less IPv4 and UDP headers.
pub(crate) const LONGEST: usize = 1472;
const SECOND: u64 = 1_000_000_000;
/// A side that waits gives up after so long without a first datagram, where it has no time limit.
const PATIENCE: u64 = 60 * SECOND;
/// Afterwards, so long a silence is the end.
pub(crate) const SILENCE: u64 = 2 * SECOND;
/// Datagrams sent between two looks at the clock and at what has come back.
const CHUNK: u64 = 32;

pub(crate) fn run<P: Platform>(
    platform: &P,
    spec: &Spec<'_>,
    results: Results<'_>,
) -> Result<(), Unavailable> {
    let poll = spec.word("net") == "poll";
    let socket = platform.datagrams(spec.number("port") as u16, poll, spec.count("batch"))?;
    match spec.word("role") {
        "send" => send(platform, spec, &socket, results),
        role => {
            let got = answer(platform, spec, &socket, role == "reflect");
            results(&got.record(spec));
            Ok(())
        }
    }
}

/// The other end, as `peer=` names it.
pub(crate) fn peer(spec: &Spec<'_>) -> Peer {
    let (address, port) = spec.peer("peer").unwrap_or_default();
    Peer { address, port: port.unwrap_or(1300) }
}

fn send<P: Platform>(
    platform: &P,
    spec: &Spec<'_>,
    socket: &P::Datagrams,
    results: Results<'_>,
) -> Result<(), Unavailable> {
    let (to, rate) = (peer(spec), spec.number("rate"));
    let payload = [0x55; LONGEST];
    let payload = payload.get(..spec.count("size")).unwrap_or(&payload);
    // The other side may still be starting: the time begins with the first that finds its way.
    let patience = platform.now() + SILENCE * 5;
    let mut sent = socket.send(to, payload);
    while !sent && platform.now() < patience {
        sent = socket.send(to, payload);
    }
    let limit = Limit::new(platform, spec, spec.number("items"));
    let mut back = [0; LONGEST];
    let (mut tried, mut dropped, mut returned) = (1, u64::from(!sent), 0);
    let start = platform.now();
    loop {
        let step = if rate == 0 { CHUNK } else { 1 };
        let chunk = limit.next(platform, tried, step).min(step);
        if chunk == 0 {
            break;
        }
        for _ in 0..chunk {
            dropped += u64::from(!socket.send(to, payload));
        }
        tried += chunk;
        if let Some(pause) = (tried * SECOND).checked_div(rate) {
            socket.flush();
            platform.sleep_until(start + pause);
        }
        while socket.receive(&mut back, 0).is_some() {
            returned += 1;
        }
    }
    socket.flush();
    let ns = platform.now() - start;
    // What is still on its way back.
    while socket.receive(&mut back, platform.now() + SECOND / 10).is_some() {
        returned += 1;
    }
    let record = Record::new(spec.text(), "-", tried - dropped, ns).with("dropped", dropped);
    results(&record.with("returned", returned));
    Ok(())
}

/// What came in.
pub(crate) struct Got {
    pub(crate) count: u64,
    pub(crate) bytes: u64,
    /// From the first to the last.
    ns: u64,
    /// Reflections that found no room.
    pub(crate) dropped: u64,
}

impl Got {
    pub(crate) fn record<'s>(&self, spec: &Spec<'s>) -> Record<'s> {
        let record = Record::new(spec.text(), "-", self.count, self.ns).with("bytes", self.bytes);
        record.with("dropped", self.dropped)
    }
}

/// Takes datagrams, and sends them back if it is to `reflect`, until as many as asked for have come,
/// the time is over, or nothing comes any more.
pub(crate) fn answer<P: Platform>(
    platform: &P,
    spec: &Spec<'_>,
    socket: &P::Datagrams,
    reflect: bool,
) -> Got {
    let limit = Limit::new(platform, spec, spec.number("items"));
    let mut payload = [0; LONGEST];
    let mut got = Got { count: 0, bytes: 0, ns: 0, dropped: 0 };
    let (mut first, mut last) = (0, 0);
    while limit.next(platform, got.count, 1) > 0 {
        let wait = if got.count == 0 { PATIENCE } else { SILENCE };
        let deadline = limit.deadline.min(platform.now() + wait);
        let Some((length, from)) = socket.receive(&mut payload, deadline) else { break };
        last = platform.now();
        first = if got.count == 0 { last } else { first };
        got.count += 1;
        got.bytes += length as u64;
        if reflect {
            got.dropped += u64::from(!socket.send(from, payload.get(..length).unwrap_or(&[])));
        }
    }
    socket.flush();
    got.ns = last - first;
    got
}
