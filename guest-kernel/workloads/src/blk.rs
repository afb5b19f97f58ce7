//! Requests to a disk, a fixed number under way: what each costs, and how long it takes.

use abi::histogram::Histogram;
use abi::record::Record;
use abi::workload::Spec;

use crate::platform::{Disk, Platform, Unavailable};
use crate::{Limit, Results};

/// Most requests under way.
const DEPTH: usize = 128;
/// Of ten requests of a mixed load, this many read.
const MIXED_READS: u64 = 7;

pub(crate) fn run<P: Platform>(
    platform: &P,
    spec: &Spec<'_>,
    results: Results<'_>,
) -> Result<(), Unavailable> {
    let (size, depth) = (spec.count("size"), spec.count("depth").min(DEPTH));
    let mut disk = platform.disk(spec.count("disk"), size, depth, spec.word("blk") == "poll")?;
    let blocks = disk.capacity() / size.max(1) as u64;
    if blocks == 0 {
        return Err(Unavailable("disk-too-small"));
    }
    let limit = Limit::new(platform, spec, spec.number("items"));
    let mut pattern = Pattern { rw: spec.word("rw"), random: 0x9e37_79b9_7f4a_7c15, next: 0 };
    let mut begun = [0; DEPTH];
    let mut times = Histogram::new();
    let (mut submitted, mut failed) = (0, 0);
    let start = platform.now();
    let mut first = 0..depth as u32;
    // Every slot is filled once; after that, each end begins the next.
    loop {
        let tag = match first.next() {
            Some(tag) => tag,
            None => match disk.complete() {
                Some((tag, well)) => {
                    let begun = begun.get(tag as usize).copied().unwrap_or(start);
                    times.record(platform.now().saturating_sub(begun));
                    failed += u64::from(!well);
                    tag
                }
                None => break,
            },
        };
        if limit.next(platform, submitted, 1) == 0 {
            continue;
        }
        let (block, write) = pattern.next(blocks);
        if let Some(begun) = begun.get_mut(tag as usize) {
            *begun = platform.now();
        }
        if !disk.submit(tag, block * size as u64, write) {
            return Err(Unavailable("disk-takes-no-request"));
        }
        submitted += 1;
    }
    let ns = platform.now() - start;
    let record = Record::new(spec.text(), "-", times.count(), ns).with("bytes", times.count() * size as u64);
    let record = record.with("failed", failed).with("p50_ns", times.p50()).with("p99_ns", times.p99());
    results(&record.with("max_ns", times.max()));
    Ok(())
}

/// Which block comes next, and what is done with it.
struct Pattern<'s> {
    rw: &'s str,
    random: u64,
    next: u64,
}

impl Pattern<'_> {
    fn next(&mut self, blocks: u64) -> (u64, bool) {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let anywhere = (self.random >> 8) % blocks;
        let write = match self.rw {
            "write" | "randwrite" => true,
            "mixed" => self.random % 10 >= MIXED_READS,
            _ => false,
        };
        let in_turn = matches!(self.rw, "read" | "write");
        let block = if in_turn { self.next % blocks } else { anywhere };
        self.next += 1;
        (block, write)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_stays_on_the_disk() {
        let pattern = |rw| {
            let mut pattern = Pattern { rw, random: 1, next: 0 };
            core::array::from_fn::<_, 1000, _>(|_| pattern.next(10))
        };
        assert!(pattern("randread").iter().all(|(block, write)| *block < 10 && !write));
        assert_eq!(pattern("write")[8..12], [(8, true), (9, true), (0, true), (1, true)]);
        let reads = pattern("mixed").iter().filter(|(_, write)| !write).count();
        assert!((650..750).contains(&reads), "{reads}");
    }
}
