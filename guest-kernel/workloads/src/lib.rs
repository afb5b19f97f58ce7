//! The workloads, each written once, run in four places: on the host's Linux, in a Linux guest, in
//! the built-in guest kernel, and in this crate's tests.
//!
//! - [`platform`]   what a workload needs of the kernel below it
//! - [`semaphore`]  counting semaphores over the platform's wait and wake
//! - [`cache`]      a page cache's table, for `pagecache` and for the built-in kernel's root
//! - [`sys`]        memory shared out, and the inner loops in their own instructions
//! - one module for each workload; [`run`] finds it by its name
#![no_std]

mod blk;
mod bulk;
pub mod cache;
mod compress;
mod gups;
mod hackbench;
mod ipc;
mod jitter;
mod linpack;
mod null;
mod packets;
mod pagecache;
pub mod platform;
mod probe;
mod rr;
pub mod semaphore;
mod stream;
pub mod sys;
#[cfg(test)]
mod testing;
mod udp;
mod zeropages;

use abi::record::{Outcome, Record};
use abi::workload::Spec;
use platform::{Platform, Unavailable};

/// Where results go, one at a time.
pub type Results<'r> = &'r mut dyn FnMut(&Record<'_>);

/// Runs one workload to its end and hands over its results: at least one, be it only the reason
/// why there is none.
pub fn run<P: Platform>(platform: &P, spec: &Spec<'_>, results: Results<'_>) {
    let mut with_counters = |record: &Record<'_>| {
        let mut record = *record;
        platform.counters(&mut |name, value| record = record.with(name, value));
        results(&record);
    };
    let done = platform.prepare(spec).and_then(|()| match spec.workload.name {
        "null" => null::run(platform, spec, &mut with_counters),
        "ipc" => ipc::run(platform, spec, &mut with_counters),
        "hackbench" => hackbench::run(platform, spec, &mut with_counters),
        "stream" => stream::run(platform, spec, &mut with_counters),
        "gups" => gups::run(platform, spec, &mut with_counters),
        "linpack" => linpack::run(platform, spec, &mut with_counters),
        "compress" => compress::run(platform, spec, &mut with_counters),
        "pagecache" => pagecache::run(platform, spec, &mut with_counters),
        "zeropages" => zeropages::run(platform, spec, &mut with_counters),
        "udp" => udp::run(platform, spec, &mut with_counters),
        "rr" => rr::run(platform, spec, &mut with_counters),
        "packets" => packets::run(platform, spec, &mut with_counters),
        "bulk" => bulk::run(platform, spec, &mut with_counters),
        "blk" => blk::run(platform, spec, &mut with_counters),
        "probe" => probe::run(platform, spec, &mut with_counters),
        "jitter" => jitter::run(platform, spec, &mut with_counters),
        _ => Err(Unavailable("not-on-this-platform")),
    });
    if let Err(Unavailable(why)) = done {
        results(&Record::without(spec.text(), Outcome::Unavailable(why)));
    }
}

/// The threads to use: as asked, or one for each CPU.
fn threads<P: Platform>(platform: &P, spec: &Spec<'_>) -> usize {
    let asked = spec.count("threads");
    if asked == 0 { platform.cpus().clamp(1, sys::pieces::MOST) } else { asked }
}

/// When a workload ends that may end by count or by time.
struct Limit {
    /// Steps.
    most: u64,
    /// On the platform's clock.
    deadline: u64,
}

impl Limit {
    /// At most `most` steps, and at most as long as `spec` says, from now on.
    fn new<P: Platform>(platform: &P, spec: &Spec<'_>, most: u64) -> Limit {
        let seconds = spec.number("seconds");
        let deadline = match seconds {
            0 => u64::MAX,
            _ => platform.now().saturating_add(seconds * 1_000_000_000),
        };
        Limit { most, deadline }
    }

    /// The steps to do before the next look at the clock: at most `chunk`, or all of them where there is
    /// no limit of time; 0 at the end.
    fn next<P: Platform>(&self, platform: &P, done: u64, chunk: u64) -> u64 {
        match self.deadline {
            u64::MAX => self.most.saturating_sub(done),
            deadline if platform.now() >= deadline => 0,
            _ => self.most.saturating_sub(done).min(chunk),
        }
    }
}
