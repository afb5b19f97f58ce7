//! The match search of a dictionary compressor: for every position, the longest earlier string that
//! a chain of equal hashes leads to. It jumps about in a window and in tables larger than the
//! translation caches.

use core::sync::atomic::{AtomicU64, Ordering};

use abi::record::Record;
use abi::workload::Spec;

use crate::platform::{Platform, Unavailable};
use crate::sys::pieces::Pieces;
use crate::sys::words;
use crate::{Limit, Results, threads};

const WINDOW: usize = 1 << 15;
const HASHES: usize = 1 << 15;
/// Links followed at most.
const CHAIN: usize = 16;
const SHORTEST: usize = 4;
const LONGEST: usize = 258;
/// Positions between two looks at the clock.
const CHUNK: u64 = 1 << 16;

pub(crate) fn run<P: Platform>(
    platform: &P,
    spec: &Spec<'_>,
    results: Results<'_>,
) -> Result<(), Unavailable> {
    let threads = threads(platform, spec);
    let size = spec.count("size");
    let tables = (HASHES + WINDOW) * threads;
    let (scanned, matched) = (AtomicU64::new(0), AtomicU64::new(0));
    let ns = platform.memory(size + 4 * tables, |memory| {
        let (text, tables) = memory.split_at_mut(size / 8 * 8);
        write_text(words(text));
        let text = Pieces::new(text, threads, 8);
        let tables = Pieces::new(words(tables), threads, 1);
        let limit = Limit::new(platform, spec, u64::MAX);
        let start = platform.now();
        platform.run(threads, &|thread| {
            let (Some(text), Some(mut tables)) = (text.hold(thread), tables.hold(thread)) else { return };
            let (heads, links) = tables.split_at_mut(HASHES / 2);
            let mut chains = Chains { heads, links };
            chains.heads.fill(u64::MAX);
            let (mut at, mut in_matches) = (0, 0);
            while at < text.len() && limit.next(platform, 0, 1) > 0 {
                let stop = text.len().min(at + CHUNK as usize);
                while at < stop {
                    let length = chains.longest_match(&text, at);
                    in_matches += length;
                    at += length.max(1);
                }
            }
            scanned.fetch_add(at as u64, Ordering::Relaxed);
            matched.fetch_add(in_matches as u64, Ordering::Relaxed);
        })?;
        Ok(platform.now() - start)
    })??;
    let bytes = scanned.into_inner();
    results(
        &Record::new(spec.text(), "-", bytes, ns).with("bytes", bytes).with("matched", matched.into_inner()),
    );
    Ok(())
}

/// Positions by hash, newest first: two 32-bit positions to a word.
struct Chains<'t> {
    heads: &'t mut [u64],
    links: &'t mut [u64],
}

impl Chains<'_> {
    /// Bytes of the longest match at `at`, 0 if it is not worth it; enters the position.
    fn longest_match(&mut self, text: &[u8], at: usize) -> usize {
        let Some(here) = text.get(at..at + SHORTEST).and_then(|bytes| bytes.first_chunk()) else { return 0 };
        let hash = (u32::from_le_bytes(*here).wrapping_mul(0x9e37_79b1) >> 17) as usize % HASHES;
        let mut candidate = half(self.heads, hash);
        set_half(self.links, at % WINDOW, candidate);
        set_half(self.heads, hash, at as u32);
        let mut longest = 0;
        for _ in 0..CHAIN {
            // Positions never entered, and those out of the window.
            let earlier = candidate as usize;
            if earlier >= at || at - earlier >= WINDOW {
                break;
            }
            let pairs = text[earlier..].iter().zip(&text[at..]).take(LONGEST);
            longest = longest.max(pairs.take_while(|(a, b)| a == b).count());
            candidate = half(self.links, earlier % WINDOW);
        }
        if longest >= SHORTEST { longest } else { 0 }
    }
}

fn half(words: &[u64], index: usize) -> u32 {
    words.get(index / 2).map_or(u32::MAX, |word| (word >> (index % 2 * 32)) as u32)
}

fn set_half(words: &mut [u64], index: usize, value: u32) {
    if let Some(word) = words.get_mut(index / 2) {
        let shift = index % 2 * 32;
        *word = *word & !(0xffff_ffff << shift) | u64::from(value) << shift;
    }
}

/// Text of a few thousand different words of eight letters, in an order that hardly repeats.
fn write_text(words: &mut [u64]) {
    let mut random = 1u64;
    for word in words {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let number = (random >> 33) % 4093;
        *word = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) & 0x0f0f_0f0f_0f0f_0f0f | 0x6060_6060_6060_6060;
    }
}
