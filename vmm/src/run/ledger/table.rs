//! Exits by kind and address, in a table that no guest can grow beyond its bound.

use crate::kvm::exit::ExitKind;

use super::times::Times;

/// Rows of one phase, besides `other`. A Linux boot needs some thirty.
pub const MAX_ROWS: usize = 256;
/// Remembered places of rows, by a hash of the address.
const HINTS: usize = 64;

/// What exits are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    pub kind: ExitKind,
    /// Port or guest-physical address; 0 where the kind has none.
    pub address: u64,
}

/// One table of counts. Totals stay exact whatever the guest does: what has no row of its own is in
/// [`other`](Self::other).
#[derive(Clone, Debug)]
pub struct Table {
    keys: Vec<Key>,
    /// Parallel to `keys`, apart so that a search reads few cache lines.
    times: Vec<Times>,
    other: Times,
    hints: [u8; HINTS],
}

impl Default for Table {
    fn default() -> Self {
        Table { keys: Vec::new(), times: Vec::new(), other: Times::default(), hints: [0; HINTS] }
    }
}

impl Table {
    /// Counts one exit. `may_grow` says whether a new key may still have a row; answers whether it
    /// got one.
    #[inline]
    pub fn record(&mut self, key: Key, ticks: u64, may_grow: bool) -> bool {
        let slot = hint_of(key.address);
        let hint = usize::from(self.hints[slot]);
        if self.keys.get(hint) == Some(&key) {
            self.times[hint].record(ticks);
            return false;
        }
        self.search(key, slot, ticks, may_grow)
    }

    fn search(&mut self, key: Key, slot: usize, ticks: u64, may_grow: bool) -> bool {
        let found = self.keys.iter().position(|&k| k == key);
        let new = found.is_none();
        if new {
            if !may_grow || self.keys.len() >= MAX_ROWS {
                self.other.record(ticks);
                return false;
            }
            self.keys.push(key);
            self.times.push(Times::default());
        }
        let row = found.unwrap_or(self.keys.len() - 1);
        self.hints[slot] = row as u8; // below MAX_ROWS, which a byte can index
        self.times[row].record(ticks);
        new
    }

    /// The rows, in order of first appearance.
    pub fn rows(&self) -> impl Iterator<Item = (Key, &Times)> {
        self.keys.iter().copied().zip(&self.times)
    }

    /// The exits for which there was no row left.
    pub fn other(&self) -> &Times {
        &self.other
    }

    /// All exits counted here.
    pub fn count(&self) -> u64 {
        self.times.iter().chain([&self.other]).map(Times::count).sum()
    }
}

/// Fibonacci hashing: neighbouring registers land far apart.
#[inline]
fn hint_of(address: u64) -> usize {
    (address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - HINTS.ilog2())) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(address: u64) -> Key {
        Key { kind: ExitKind::MmioWrite, address }
    }

    #[test]
    fn rows_are_told_apart_by_kind_and_address() {
        let mut table = Table::default();
        for _ in 0..3 {
            table.record(write(0x1000), 10, true);
            table.record(Key { kind: ExitKind::MmioRead, address: 0x1000 }, 20, true);
        }
        table.record(write(0x1004), 30, true);
        let counts: Vec<_> =
            table.rows().map(|(key, times)| (key.kind, key.address, times.count())).collect();
        let expected = [
            (ExitKind::MmioWrite, 0x1000, 3),
            (ExitKind::MmioRead, 0x1000, 3),
            (ExitKind::MmioWrite, 0x1004, 1),
        ];
        assert_eq!(counts, expected);
    }

    #[test]
    fn a_guest_that_touches_everything_is_bounded_and_lost_nowhere() {
        let mut table = Table::default();
        for address in 0..100_000 {
            table.record(write(address * 8), 1, true);
        }
        assert_eq!(table.rows().count(), MAX_ROWS);
        assert_eq!(table.other().count(), 100_000 - MAX_ROWS as u64);
        assert_eq!(table.count(), 100_000);
    }
}
