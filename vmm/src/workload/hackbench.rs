//! hackbench on real socket pairs: in each group 20 senders write `loops` messages of 100 bytes to
//! each of 20 receivers. It is the kernel's scheduler and its wake-ups that are measured.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{Builder, Scope, scope};

use abi::record::Record;
use abi::workload::Spec;
use workloads::platform::{Platform, Unavailable};

use super::linux::Linux;
use super::start::Start;
use crate::sys::limits;

const SENDERS: usize = 20;
const RECEIVERS: usize = 20;
const MESSAGE: usize = 100;
/// The default of 2 MiB would be 4 GiB of addresses for 50 groups.
const STACK: usize = 64 << 10;

struct Bench {
    line: Start,
    loops: u64,
    /// 0: no limit.
    seconds: u64,
    received: AtomicU64,
}

pub fn run(linux: &Linux, spec: &Spec<'_>, results: &mut dyn FnMut(&Record<'_>)) -> Result<(), Unavailable> {
    if spec.given("threads") {
        return Err(Unavailable("its-threads-are-40-times-groups"));
    }
    linux.prepare(spec)?;
    let groups = spec.count("groups");
    // Two ends for each receiver, and a few for everything else.
    limits::allow_files((groups * RECEIVERS * 2 + 64) as u64);
    let bench = Bench {
        line: Start::default(),
        loops: spec.number("loops"),
        seconds: spec.number("seconds"),
        received: AtomicU64::new(0),
    };
    let mut start = 0;
    scope(|scope| {
        let ready = (0..groups).try_for_each(|_| group(scope, &bench, linux));
        start = linux.now();
        bench.line.open(ready)
    })?;
    let ns = linux.now() - start;
    let threads = (groups * (SENDERS + RECEIVERS)) as u64;
    let mut record =
        Record::new(spec.text(), "-", bench.received.into_inner(), ns).with("started_threads", threads);
    linux.counters(&mut |name, value| record = record.with(name, value));
    results(&record);
    Ok(())
}

fn group<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    bench: &'env Bench,
    linux: &'env Linux,
) -> Result<(), Unavailable> {
    let mut outs = Vec::with_capacity(RECEIVERS);
    for _ in 0..RECEIVERS {
        let (out, mut from) = UnixStream::pair().map_err(|_| Unavailable("no-more-sockets"))?;
        outs.push(out);
        start(scope, move || {
            if bench.line.pass() {
                bench.received.fetch_add(receive(&mut from), Ordering::Relaxed);
            }
        })?;
    }
    // The last sender closes the sockets: that is how the receivers learn of the end.
    let outs = Arc::new(outs);
    for _ in 0..SENDERS {
        let outs = Arc::clone(&outs);
        start(scope, move || {
            if bench.line.pass() {
                bench.send(&outs, linux);
            }
        })?;
    }
    Ok(())
}

fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    body: impl FnOnce() + Send + 'scope,
) -> Result<(), Unavailable> {
    let builder = Builder::new().stack_size(STACK);
    builder.spawn_scoped(scope, body).map(drop).map_err(|_| Unavailable("no-more-threads"))
}

impl Bench {
    fn send(&self, outs: &[UnixStream], linux: &Linux) {
        let deadline = match self.seconds {
            0 => u64::MAX,
            seconds => linux.now().saturating_add(seconds * 1_000_000_000),
        };
        let message = [0x55; MESSAGE];
        for _ in 0..self.loops {
            if deadline != u64::MAX && linux.now() >= deadline {
                return;
            }
            for mut out in outs {
                if out.write_all(&message).is_err() {
                    return;
                }
            }
        }
    }
}

/// The messages until the other end is closed.
fn receive(from: &mut UnixStream) -> u64 {
    let mut messages = 0;
    let mut message = [0; MESSAGE];
    while from.read_exact(&mut message).is_ok() {
        messages += 1;
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_arrives() {
        let mut lines = Vec::new();
        let spec = Spec::parse("hackbench,groups=2,loops=3").unwrap();
        run(&Linux::new(), &spec, &mut |record| lines.push((record.ops, record.value("started_threads"))))
            .unwrap();
        assert_eq!(lines, [(2 * 20 * 20 * 3, Some(80))]);
    }
}
