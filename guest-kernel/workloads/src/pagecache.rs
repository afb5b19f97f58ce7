//! What an eviction rule keeps: temporary files of half the cache are written, a scan of four times
//! the cache passes once, the temporary files are read back and deleted.
//!
//! Least recently used, the scan pushes out all that is needed soon. Tagged, the pages of a stream
//! that is read once are the first to go, newest first, and the files stay.

use abi::record::Record;
use abi::workload::Spec;

use crate::platform::{Platform, Unavailable};
use crate::sys::words;
use crate::{Limit, Results};

const PAGE: usize = 4096;
/// Sizes of the files and the scan, in halves of the cache.
const SCAN: usize = 8;
/// No frame, no block.
const NONE: u64 = u64::MAX;

pub(crate) fn run<P: Platform>(
    platform: &P,
    spec: &Spec<'_>,
    results: Results<'_>,
) -> Result<(), Unavailable> {
    let tagged = spec.word("cache") == "tagged";
    let frames = (spec.count("size") / PAGE).max(2);
    let (files, scan) = (frames / 2, frames / 2 * SCAN);
    let table = Table::words(frames, files + scan);
    platform.memory(frames * PAGE + table * 8, |memory| {
        let (pages, tables) = memory.split_at_mut(frames * PAGE);
        let mut cache =
            Cache { pages: words(pages), table: Table::new(words(tables), frames), counts: [0; 3], tagged };
        let limit = Limit::new(platform, spec, u64::MAX);
        let start = platform.now();
        let steps = (0..files).map(|block| (block, true));
        let steps = steps.chain((files..files + scan).chain(0..files).map(|block| (block, false)));
        let mut done = 0;
        for (block, write) in steps {
            if done % 256 == 0 && limit.next(platform, 0, 1) == 0 {
                break;
            }
            cache.access(block, write, block >= files);
            done += 1;
        }
        let ns = platform.now() - start;
        let [hits, misses, written] = cache.counts;
        let record = Record::new(spec.text(), "-", done, ns).with("hits", hits).with("misses", misses);
        results(&record.with("written_back", written));
    })
}

struct Cache<'m> {
    pages: &'m mut [u64],
    table: Table<'m>,
    /// Hits, misses, pages written back.
    counts: [u64; 3],
    tagged: bool,
}

/// Which block is in which frame, and in which order they were used: a list of all frames through
/// `older` and `newer`. Frame `frames` is the list's end on both sides.
struct Table<'m> {
    frame_of: &'m mut [u64],
    block_in: &'m mut [u64],
    dirty: &'m mut [u64],
    older: &'m mut [u64],
    newer: &'m mut [u64],
    /// The frame a scan used last, if it still holds what was scanned.
    scanned: u64,
}

impl<'m> Table<'m> {
    fn words(frames: usize, blocks: usize) -> usize {
        4 * (frames + 1) + blocks
    }

    fn new(memory: &'m mut [u64], frames: usize) -> Table<'m> {
        memory.fill(NONE);
        let (block_in, rest) = memory.split_at_mut(frames + 1);
        let (dirty, rest) = rest.split_at_mut(frames + 1);
        let (older, rest) = rest.split_at_mut(frames + 1);
        let (newer, frame_of) = rest.split_at_mut(frames + 1);
        dirty.fill(0);
        let ring = frames as u64 + 1;
        for (frame, (older, newer)) in (0..ring).zip(older.iter_mut().zip(newer.iter_mut())) {
            (*older, *newer) = ((frame + ring - 1) % ring, (frame + 1) % ring);
        }
        Table { frame_of, block_in, dirty, older, newer, scanned: NONE }
    }

    /// Puts `frame` at the newest end.
    fn touch(&mut self, frame: usize) {
        let end = self.older.len() - 1;
        let (older, newer) = (self.older[frame] as usize, self.newer[frame] as usize);
        (self.newer[older], self.older[newer]) = (newer as u64, older as u64);
        let newest = self.older[end] as usize;
        (self.older[frame], self.newer[frame]) = (newest as u64, end as u64);
        (self.newer[newest], self.older[end]) = (frame as u64, frame as u64);
    }

    /// The frame to give up.
    fn victim(&self, tagged: bool) -> usize {
        let oldest = self.newer[self.newer.len() - 1] as usize;
        let free = self.block_in[oldest] == NONE;
        if tagged && !free && self.scanned != NONE { self.scanned as usize } else { oldest }
    }
}

impl Cache<'_> {
    fn access(&mut self, block: usize, write: bool, scan: bool) {
        let [hits, misses, written] = &mut self.counts;
        let table = &mut self.table;
        let frame = match table.frame_of[block] {
            NONE => {
                *misses += 1;
                let frame = table.victim(self.tagged);
                let old = core::mem::replace(&mut table.block_in[frame], block as u64);
                if let Some(old) = table.frame_of.get_mut(old as usize) {
                    *old = NONE;
                }
                *written += core::mem::take(&mut table.dirty[frame]);
                table.frame_of[block] = frame as u64;
                frame
            }
            frame => {
                *hits += 1;
                frame as usize
            }
        };
        table.touch(frame);
        table.dirty[frame] |= u64::from(write);
        if scan {
            table.scanned = frame as u64;
        } else if table.scanned == frame as u64 {
            table.scanned = NONE;
        }
        // Stands for the transfer, and for its use.
        let page = frame * (PAGE / 8);
        if let Some(page) = self.pages.get_mut(page..page + PAGE / 8) {
            page.fill(block as u64);
        }
    }
}
