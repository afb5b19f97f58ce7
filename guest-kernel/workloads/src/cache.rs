//! A page cache's table: which block is in which frame, and which frame is given up next.
//!
//! Least recently used, a scan pushes out all that is needed soon. Tagged, the pages of a stream that is
//! read once are the first to go, newest first, and the others stay.

/// No frame, no block.
const NONE: u64 = u64::MAX;

/// The table, and what it has come to. A list of all frames goes through `older` and `newer`; frame `frames`
/// is its end on both sides.
pub struct Cache<'m> {
    frame_of: &'m mut [u64],
    block_in: &'m mut [u64],
    dirty: &'m mut [u64],
    older: &'m mut [u64],
    newer: &'m mut [u64],
    /// The frame a scan used last, if it still holds what was scanned.
    scanned: u64,
    tagged: bool,
    pub hits: u64,
    pub misses: u64,
    pub written_back: u64,
}

/// Where a block is now, and whether it was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    pub frame: usize,
    pub hit: bool,
}

impl<'m> Cache<'m> {
    /// Words of memory for so many frames and blocks.
    pub fn words(frames: usize, blocks: usize) -> usize {
        4 * (frames + 1) + blocks
    }

    /// An empty cache in `memory` of [`Cache::words`].
    pub fn new(memory: &'m mut [u64], frames: usize, tagged: bool) -> Cache<'m> {
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
        let (hits, misses, written_back) = (0, 0, 0);
        Cache { frame_of, block_in, dirty, older, newer, scanned: NONE, tagged, hits, misses, written_back }
    }

    /// Block `block` is used, be it by a scan: it is in a frame afterwards, and if it was not before, whoever
    /// asks has to fetch it.
    pub fn access(&mut self, block: usize, write: bool, scan: bool) -> Access {
        let there = self.frame_of[block];
        let hit = there != NONE;
        let frame = if hit { there as usize } else { self.victim() };
        if hit {
            self.hits += 1;
        } else {
            self.misses += 1;
            self.forget(frame);
            self.block_in[frame] = block as u64;
            self.frame_of[block] = frame as u64;
        }
        self.touch(frame);
        self.dirty[frame] |= u64::from(write);
        if scan {
            self.scanned = frame as u64;
        } else if self.scanned == frame as u64 {
            self.scanned = NONE;
        }
        Access { frame, hit }
    }

    /// What is in `frame` is no more: what was to be fetched has not come, or something else comes.
    pub fn forget(&mut self, frame: usize) {
        let old = core::mem::replace(&mut self.block_in[frame], NONE);
        if let Some(old) = self.frame_of.get_mut(old as usize) {
            *old = NONE;
        }
        self.written_back += core::mem::take(&mut self.dirty[frame]);
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
    fn victim(&self) -> usize {
        let oldest = self.newer[self.newer.len() - 1] as usize;
        let free = self.block_in[oldest] == NONE;
        if self.tagged && !free && self.scanned != NONE { self.scanned as usize } else { oldest }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec;

    /// Hits of so many rounds over 8 blocks with 4 frames.
    fn hits(tagged: bool, rounds: usize) -> u64 {
        let mut memory = vec![0; Cache::words(4, 8)];
        let mut cache = Cache::new(&mut memory, 4, tagged);
        for block in (0..rounds).flat_map(|_| 0..8) {
            cache.access(block, false, true);
        }
        assert_eq!(cache.hits + cache.misses, 8 * rounds as u64);
        cache.hits
    }

    #[test]
    fn a_scan_again_and_again_finds_what_the_rule_has_kept() {
        assert_eq!(hits(false, 3), 0);
        // All frames but the one through which the scan goes.
        assert!(hits(true, 3) >= 2 * 3, "{}", hits(true, 3));
    }

    #[test]
    fn what_has_not_come_is_not_there() {
        let mut memory = vec![0; Cache::words(2, 4)];
        let mut cache = Cache::new(&mut memory, 2, false);
        let first = cache.access(3, true, false);
        assert!(!first.hit && cache.access(3, false, false) == Access { hit: true, ..first });
        cache.forget(first.frame);
        assert!(!cache.access(3, false, false).hit);
        assert_eq!(cache.written_back, 1);
    }
}
