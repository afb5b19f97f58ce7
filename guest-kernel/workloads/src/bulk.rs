//! Messages one way, as a stream that loses nothing: cut into datagrams, numbered, acknowledged; no more
//! under way than a window, and sent again from the first that is missing.
//!
//! The same stream on every kernel, so that what differs is the way of a datagram.

use core::sync::atomic::{AtomicU64, Ordering};

use abi::record::Record;
use abi::workload::Spec;

use crate::Results;
use crate::packets::{peer_of, ports};
use crate::platform::{Datagrams, Peer, Platform, Unavailable};
use crate::udp::LONGEST;

/// Number of the datagram, and how many there will be.
const HEADER: usize = 16;
const PAYLOAD: usize = LONGEST - HEADER;
/// Datagrams under way, and those that are acknowledged together.
const WINDOW: u64 = 64;
const TOGETHER: u64 = 16;
/// So long is an acknowledgement waited for; so many times in a row is nobody there.
const PATIENCE_NS: u64 = 20_000_000;
const SILENT: u32 = 100;
/// A sink waits so long for the first datagram, and for another one afterwards.
const FIRST_NS: u64 = 60_000_000_000;
const NEXT_NS: u64 = 2_000_000_000;
/// Whoever has all of it still acknowledges for so long.
const LINGER_NS: u64 = 100_000_000;

/// What one thread has moved.
#[derive(Default)]
struct Moved {
    datagrams: u64,
    again: u64,
}

pub(crate) fn run<P: Platform>(
    platform: &P,
    spec: &Spec<'_>,
    results: Results<'_>,
) -> Result<(), Unavailable> {
    let threads = spec.count("threads").max(1);
    let ports = ports(platform, spec, threads, spec.count("batch"))?;
    let sends = spec.word("role") == "send";
    let message = Message::of(spec.number("size"));
    let (datagrams, again, last) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let first = AtomicU64::new(u64::MAX);
    platform.run(threads, &|thread| {
        let Some(Some(port)) = ports.get(thread) else { return };
        let begin = || first.fetch_min(platform.now(), Ordering::Relaxed);
        let moved = if sends {
            begin();
            send(platform, port, peer_of(spec, thread), message, spec.number("items") * message.datagrams)
        } else {
            sink(platform, port, &begin)
        };
        if moved.datagrams > 0 {
            last.fetch_max(platform.now(), Ordering::Relaxed);
        }
        datagrams.fetch_add(moved.datagrams, Ordering::Relaxed);
        again.fetch_add(moved.again, Ordering::Relaxed);
    })?;
    let messages = datagrams.into_inner() / message.datagrams;
    if messages == 0 {
        return Err(Unavailable("nobody-is-there"));
    }
    let ns = last.into_inner().saturating_sub(first.into_inner());
    let record = Record::new(spec.text(), "-", messages, ns).with("bytes", messages * spec.number("size"));
    results(&record.with("again", again.into_inner()));
    Ok(())
}

/// How a message is cut.
#[derive(Clone, Copy)]
struct Message {
    datagrams: u64,
    /// Bytes of the last datagram.
    rest: usize,
}

impl Message {
    fn of(size: u64) -> Message {
        let datagrams = size.div_ceil(PAYLOAD as u64).max(1);
        Message { datagrams, rest: (size - (datagrams - 1) * PAYLOAD as u64) as usize }
    }

    /// Bytes of datagram `number` of the stream, header included.
    fn len(&self, number: u64) -> usize {
        let is_last = number % self.datagrams == self.datagrams - 1;
        HEADER + if is_last { self.rest } else { PAYLOAD }
    }
}

fn header(number: u64, total: u64) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&number.to_le_bytes());
    header[8..].copy_from_slice(&total.to_le_bytes());
    header
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn send<P: Platform>(platform: &P, port: &P::Datagrams, to: Peer, message: Message, total: u64) -> Moved {
    let mut datagram = [0x55; LONGEST];
    let mut answer = [0; HEADER];
    let (mut next, mut acknowledged, mut silent, mut again) = (0, 0, 0, 0);
    while acknowledged < total && silent < SILENT {
        while next < total.min(acknowledged + WINDOW) {
            datagram[..HEADER].copy_from_slice(&header(next, total));
            port.send(to, datagram.get(..message.len(next)).unwrap_or(&[]));
            next += 1;
        }
        port.flush();
        match port.receive(&mut answer, platform.now() + PATIENCE_NS) {
            Some((HEADER, _)) => {
                silent = 0;
                // Beyond what was sent nothing can be acknowledged.
                acknowledged = acknowledged.max(word(&answer, 0).min(next));
            }
            Some(_) => {}
            None => {
                silent += 1;
                again += next - acknowledged;
                next = acknowledged;
            }
        }
    }
    Moved { datagrams: acknowledged, again }
}

fn sink<P: Platform>(platform: &P, port: &P::Datagrams, begin: &dyn Fn() -> u64) -> Moved {
    let mut datagram = [0; LONGEST];
    let (mut expected, mut total, mut again, mut told) = (0, u64::MAX, 0, 0);
    loop {
        let wait = match expected {
            0 => FIRST_NS,
            all if all >= total => LINGER_NS,
            _ => NEXT_NS,
        };
        let Some((len, from)) = port.receive(&mut datagram, platform.now() + wait) else { break };
        if len < HEADER {
            continue;
        }
        let in_turn = word(&datagram, 0) == expected;
        if in_turn {
            if expected == 0 {
                begin();
                total = word(&datagram, 8);
            }
            expected += 1;
        } else {
            again += 1;
        }
        // What is out of turn has something missing before it, or the acknowledgement was lost.
        if !in_turn || expected == total || expected - told >= TOGETHER {
            told = expected;
            port.send(from, &header(expected, total));
            port.flush();
        }
    }
    Moved { datagrams: expected, again }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_cut_into_as_many_as_it_needs() {
        let lens = |size| {
            let message = Message::of(size);
            (message.datagrams, message.len(0), message.len(message.datagrams - 1))
        };
        assert_eq!(lens(1), (1, HEADER + 1, HEADER + 1));
        assert_eq!(lens(PAYLOAD as u64), (1, LONGEST, LONGEST));
        assert_eq!(lens(16384), (12, LONGEST, HEADER + 16384 - 11 * PAYLOAD));
    }
}
