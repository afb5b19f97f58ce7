//! What an eviction rule keeps: temporary files of half the cache are written, a scan of four times
//! the cache passes once, the temporary files are read back and deleted.

use abi::record::Record;
use abi::workload::Spec;

use crate::cache::Cache;
use crate::platform::{Platform, Unavailable};
use crate::sys::words;
use crate::{Limit, Results};

const PAGE: usize = 4096;
/// Sizes of the files and the scan, in halves of the cache.
const SCAN: usize = 8;

pub(crate) fn run<P: Platform>(
    platform: &P,
    spec: &Spec<'_>,
    results: Results<'_>,
) -> Result<(), Unavailable> {
    let tagged = spec.word("cache") == "tagged";
    let frames = (spec.count("size") / PAGE).max(2);
    let (files, scan) = (frames / 2, frames / 2 * SCAN);
    let table = Cache::words(frames, files + scan);
    platform.memory(frames * PAGE + table * 8, |memory| {
        let (pages, table) = memory.split_at_mut(frames * PAGE);
        let (pages, mut cache) = (words(pages), Cache::new(words(table), frames, tagged));
        let limit = Limit::new(platform, spec, u64::MAX);
        let start = platform.now();
        let steps = (0..files).map(|block| (block, true));
        let steps = steps.chain((files..files + scan).chain(0..files).map(|block| (block, false)));
        let mut done = 0;
        for (block, write) in steps {
            if done % 256 == 0 && limit.next(platform, 0, 1) == 0 {
                break;
            }
            let page = cache.access(block, write, block >= files).frame * (PAGE / 8);
            // Stands for the transfer, and for its use.
            if let Some(page) = pages.get_mut(page..page + PAGE / 8) {
                page.fill(block as u64);
            }
            done += 1;
        }
        let ns = platform.now() - start;
        let record = Record::new(spec.text(), "-", done, ns);
        let record = record.with("hits", cache.hits).with("misses", cache.misses);
        results(&record.with("written_back", cache.written_back));
    })
}
