//! Random updates: each reads, changes and writes one word of a large table, so that it costs one
//! address translation and one cache miss.

use core::sync::atomic::Ordering;

use abi::record::Record;
use abi::workload::Spec;

use crate::platform::{Platform, Unavailable};
use crate::sys::{shared_words, words};
use crate::{Limit, Results, threads};

/// Updates between two looks at the clock.
const CHUNK: u64 = 1 << 14;

pub(crate) fn run<P: Platform>(
    platform: &P,
    spec: &Spec<'_>,
    results: Results<'_>,
) -> Result<(), Unavailable> {
    let threads = threads(platform, spec);
    let size = 1usize << spec.count("size").max(8).ilog2();
    let limit = Limit::new(platform, spec, spec.number("items") / threads as u64);
    let done = core::sync::atomic::AtomicU64::new(0);
    let ns = platform.memory(size, |memory| {
        let table = words(memory);
        table.fill(0);
        let table = shared_words(table);
        let start = platform.now();
        platform.run(threads, &|thread| {
            let mut updates = 0;
            let mut random = 0x9e37_79b9_7f4a_7c15 ^ (thread as u64 + 1) << 32;
            loop {
                let chunk = limit.next(platform, updates, CHUNK);
                if chunk == 0 {
                    break;
                }
                for _ in 0..chunk {
                    random = next(random);
                    // Two threads may lose each other's update, as the benchmark allows.
                    if let Some(word) = table.get(random as usize & (table.len() - 1)) {
                        word.store(word.load(Ordering::Relaxed) ^ random, Ordering::Relaxed);
                    }
                }
                updates += chunk;
            }
            done.fetch_add(updates, Ordering::Relaxed);
        })?;
        Ok(platform.now() - start)
    })??;
    results(&Record::new(spec.text(), "-", done.into_inner(), ns).with("bytes", size as u64));
    Ok(())
}

/// The next of a sequence of 2^63 numbers (the benchmark's own polynomial).
fn next(random: u64) -> u64 {
    random << 1 ^ if random >> 63 == 1 { 7 } else { 0 }
}
