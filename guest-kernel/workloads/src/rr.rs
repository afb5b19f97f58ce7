//! One datagram there and one back, one at a time: the exits and wake-ups of a request.

use abi::histogram::Histogram;
use abi::record::Record;
use abi::workload::Spec;

use crate::platform::{Datagrams, Platform, Unavailable};
use crate::udp::{LONGEST, SILENCE, answer, peer};
use crate::{Limit, Results};

/// Requests without an answer before it gives up.
const UNANSWERED: u64 = 3;

pub(crate) fn run<P: Platform>(
    platform: &P,
    spec: &Spec<'_>,
    results: Results<'_>,
) -> Result<(), Unavailable> {
    let socket = platform.datagrams(spec.number("port") as u16, spec.word("net") == "poll", 1)?;
    if spec.word("role") != "send" {
        let got = answer(platform, spec, &socket, true);
        results(&got.record(spec));
        return Ok(());
    }
    let to = peer(spec);
    let request = [0x55; LONGEST];
    let request = request.get(..spec.count("size")).unwrap_or(&request);
    let mut response = [0; LONGEST];
    let limit = Limit::new(platform, spec, spec.number("items"));
    let mut times = Histogram::new();
    let mut lost = 0;
    let mut start = platform.now();
    while limit.next(platform, times.count(), 1) > 0 && lost < UNANSWERED {
        let mut asked = platform.now();
        socket.send(to, request);
        if times.count() == 0 {
            // The other side may still be starting: the time begins when the first has found its way.
            asked = platform.now();
            start = asked;
        }
        socket.flush();
        match socket.receive(&mut response, asked + SILENCE) {
            Some(_) => times.record(platform.now() - asked),
            None => lost += 1,
        }
    }
    let ns = platform.now() - start;
    if times.count() == 0 {
        return Err(Unavailable("nobody-answers"));
    }
    let record = Record::new(spec.text(), "-", times.count(), ns).with("lost", lost);
    results(&record.with("p50_ns", times.p50()).with("p99_ns", times.p99()).with("max_ns", times.max()));
    Ok(())
}
