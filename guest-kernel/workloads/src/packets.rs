//! Small messages by many threads, each with a port of its own and one message under way: latency times
//! threads.

use core::sync::atomic::{AtomicU64, Ordering};

use abi::record::Record;
use abi::workload::Spec;

use crate::platform::{Datagrams, Peer, Platform, Unavailable};
use crate::sys::pieces::MOST;
use crate::udp::{LONGEST, SILENCE, answer, peer};
use crate::{Limit, Results};

/// Messages of a thread without an answer before it gives up.
const UNANSWERED: u64 = 3;

pub(crate) fn run<P: Platform>(
    platform: &P,
    spec: &Spec<'_>,
    results: Results<'_>,
) -> Result<(), Unavailable> {
    let threads = spec.count("threads").max(1);
    let ports = ports(platform, spec, threads, 1)?;
    let sends = spec.word("role") == "send";
    let (done, bytes, lost) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let start = platform.now();
    platform.run(threads, &|thread| {
        let Some(Some(port)) = ports.get(thread) else { return };
        if sends {
            let (answers, unanswered) = ask(platform, spec, port, thread);
            done.fetch_add(answers, Ordering::Relaxed);
            bytes.fetch_add(answers * spec.number("size"), Ordering::Relaxed);
            lost.fetch_add(unanswered, Ordering::Relaxed);
        } else {
            let got = answer(platform, spec, port, true);
            done.fetch_add(got.count, Ordering::Relaxed);
            bytes.fetch_add(got.bytes, Ordering::Relaxed);
            lost.fetch_add(got.dropped, Ordering::Relaxed);
        }
    })?;
    let ns = platform.now() - start;
    let (done, lost) = (done.into_inner(), lost.into_inner());
    if sends && done == 0 {
        return Err(Unavailable("nobody-answers"));
    }
    results(&Record::new(spec.text(), "-", done, ns).with("bytes", bytes.into_inner()).with("lost", lost));
    Ok(())
}

/// A port for each thread, in a row.
pub(crate) fn ports<P: Platform>(
    platform: &P,
    spec: &Spec<'_>,
    threads: usize,
    batch: usize,
) -> Result<[Option<P::Datagrams>; MOST], Unavailable> {
    let mut ports = [const { None }; MOST];
    let poll = spec.word("net") == "poll";
    for (thread, slot) in ports.iter_mut().enumerate().take(threads) {
        let port =
            u16::try_from(spec.count("port") + thread).map_err(|_| Unavailable("port-beyond-65535"))?;
        *slot = Some(platform.datagrams(port, poll, batch)?);
    }
    Ok(ports)
}

/// The port that `thread` has to do with.
pub(crate) fn peer_of(spec: &Spec<'_>, thread: usize) -> Peer {
    let first = peer(spec);
    Peer { port: first.port.saturating_add(thread as u16), ..first }
}

/// Messages with an answer, and without.
fn ask<P: Platform>(platform: &P, spec: &Spec<'_>, port: &P::Datagrams, thread: usize) -> (u64, u64) {
    let to = peer_of(spec, thread);
    let message = [0x55; LONGEST];
    let message = message.get(..spec.count("size")).unwrap_or(&message);
    let limit = Limit::new(platform, spec, spec.number("items"));
    let mut answer = [0; LONGEST];
    let (mut answers, mut lost) = (0, 0);
    while limit.next(platform, answers, 1) > 0 && lost < UNANSWERED {
        port.send(to, message);
        port.flush();
        match port.receive(&mut answer, platform.now() + SILENCE) {
            Some(_) => answers += 1,
            None => lost += 1,
        }
    }
    (answers, lost)
}
