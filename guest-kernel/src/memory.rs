//! Free memory: lent in order, given back in the opposite order.

use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Up to two blocks, below and above 4 GiB.
pub struct Memory([Block; 2]);

struct Block {
    next: AtomicUsize,
    end: AtomicUsize,
}

/// A piece of memory that nobody else has.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Loan {
    range: Range<usize>,
    /// Where free memory began before, for alignment costs some.
    before: usize,
}

impl Loan {
    /// Of nothing.
    pub const NONE: Loan = Loan { range: 0..0, before: 0 };

    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }
}

impl Memory {
    pub const fn new() -> Memory {
        Memory([const { Block { next: AtomicUsize::new(0), end: AtomicUsize::new(0) } }; 2])
    }

    /// Says what there is, all of it free.
    pub fn set(&self, blocks: [Range<usize>; 2]) {
        for (block, range) in self.0.iter().zip(blocks) {
            block.next.store(range.start, Ordering::Relaxed);
            block.end.store(range.end.max(range.start), Ordering::Relaxed);
        }
    }

    /// Bytes in the larger block: the most that can be had at once.
    pub fn largest(&self) -> usize {
        self.0.iter().map(Block::free).max().unwrap_or(0)
    }

    /// Takes `bytes`, aligned to `align`, a power of two.
    pub fn take(&self, bytes: usize, align: usize) -> Option<Loan> {
        self.0.iter().find_map(|block| block.take(bytes, align))
    }

    /// Gives a loan back. One that was followed by another, not yet given back, is lost.
    pub fn give_back(&self, loan: Loan) {
        for block in &self.0 {
            let _ = block.next.compare_exchange(
                loan.range.end,
                loan.before,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
        }
    }
}

impl Block {
    fn free(&self) -> usize {
        self.end.load(Ordering::Relaxed) - self.next.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize, align: usize) -> Option<Loan> {
        let mut range = 0..0;
        let end = self.end.load(Ordering::Relaxed);
        let after = |before: usize| {
            let start = before.checked_next_multiple_of(align)?;
            range = start..start.checked_add(bytes)?;
            (range.end <= end).then_some(range.end)
        };
        let before = self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, after).ok()?;
        Some(Loan { range, before })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lent_in_order_and_given_back() {
        let memory = Memory::new();
        assert_eq!(memory.take(1, 1), None);
        memory.set([0x1001..0x9000, 0x10_0000..0x20_0000]);
        let first = memory.take(0x1000, 0x1000).unwrap();
        let second = memory.take(0x1000, 0x10).unwrap();
        assert_eq!((first.range(), second.range()), (0x2000..0x3000, 0x3000..0x4000));
        assert_eq!(memory.take(0x8000, 0x10).unwrap().range(), 0x10_0000..0x10_8000);
        assert_eq!(memory.take(usize::MAX, 1), None);
        assert_eq!(memory.largest(), 0xf_8000);
        memory.give_back(second);
        memory.give_back(first);
        assert_eq!(memory.take(0x7fff, 1).unwrap().range(), 0x1001..0x9000);
    }

    #[test]
    fn out_of_order_is_lost_and_never_lent_twice() {
        let memory = Memory::new();
        memory.set([0..0x3000, 0..0]);
        let (first, second) = (memory.take(0x1000, 1).unwrap(), memory.take(0x1000, 1).unwrap());
        memory.give_back(first);
        assert_eq!(
            (second.range(), memory.take(0x1000, 1).unwrap().range()),
            (0x1000..0x2000, 0x2000..0x3000)
        );
    }
}
