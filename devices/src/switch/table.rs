//! Which port an Ethernet address was last seen on. Read by every worker for every frame, without a
//! lock; written where something is new, under one.
//!
//! A port that invents addresses can take its own share of the table and no more.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Addresses in all.
const ENTRIES: usize = 8192;
/// Places where one address may be.
const WAYS: usize = 8;

/// An Ethernet address in the low 48 bits, first byte lowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac(u64);

impl Mac {
    /// The first six bytes of eight, as a little-endian word has them.
    #[inline]
    pub fn new(word: u64) -> Mac {
        Mac(word & 0xffff_ffff_ffff)
    }

    /// For more than one receiver: broadcast or multicast.
    #[inline]
    pub fn is_group(self) -> bool {
        self.0 & 1 != 0
    }
}

#[derive(Default)]
struct Entry {
    /// The address, and above it its port and one; 0: free.
    key: AtomicU64,
    /// The second it was last seen in.
    seen: AtomicU32,
}

impl Entry {
    fn get(&self) -> Option<(Mac, u8)> {
        let key = self.key.load(Ordering::Relaxed);
        let port = (key >> 48).checked_sub(1)?;
        Some((Mac(key & 0xffff_ffff_ffff), port as u8))
    }
}

/// The table. Time is in seconds since the switch started.
pub struct Table {
    entries: Vec<Entry>,
    seed: u64,
    age: u32,
    /// Counts what is moved or forgotten: what was looked up before may be wrong since.
    generation: AtomicU32,
    writing: Mutex<Writing>,
}

struct Writing {
    /// Entries of each port, and when expired ones were last looked for.
    held: Vec<usize>,
    swept: u32,
}

impl Table {
    /// For so many ports; addresses that are silent for `age` seconds are forgotten.
    pub fn new(ports: usize, age: u32) -> Table {
        Table {
            entries: (0..ENTRIES).map(|_| Entry::default()).collect(),
            // Nobody can choose addresses that all fall into one set.
            seed: RandomState::new().hash_one(ports) | 1,
            age,
            generation: AtomicU32::new(0),
            writing: Mutex::new(Writing { held: vec![0; ports], swept: 0 }),
        }
    }

    /// Changes whenever an address no longer is where it was.
    #[inline]
    pub fn generation(&self) -> u32 {
        self.generation.load(Ordering::Relaxed)
    }

    fn ways(&self, mac: Mac) -> &[Entry] {
        let mixed = (mac.0 ^ self.seed).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_mul(self.seed);
        let set = (mixed >> 40) as usize % (ENTRIES / WAYS);
        &self.entries[set * WAYS..(set + 1) * WAYS]
    }

    fn fresh(&self, entry: &Entry, now: u32) -> bool {
        now.saturating_sub(entry.seen.load(Ordering::Relaxed)) < self.age
    }

    /// The port of an address.
    pub fn find(&self, mac: Mac, now: u32) -> Option<u8> {
        let entry = self.ways(mac).iter().find(|entry| entry.get().is_some_and(|(m, _)| m == mac))?;
        self.fresh(entry, now).then(|| entry.get().map(|(_, port)| port)).flatten()
    }

    /// Notes that `mac` was seen on `port`. Nothing happens where there is no room.
    pub fn learn(&self, mac: Mac, port: u8, now: u32) {
        if mac.is_group() {
            return;
        }
        let known = self.ways(mac).iter().find(|entry| entry.get() == Some((mac, port)));
        match known {
            Some(entry) if entry.seen.load(Ordering::Relaxed) == now => {}
            Some(entry) => entry.seen.store(now, Ordering::Relaxed),
            None => self.insert(mac, port, now),
        }
    }

    fn insert(&self, mac: Mac, port: u8, now: u32) {
        let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let share = ENTRIES / writing.held.len().max(1);
        if writing.held[usize::from(port)] >= share && writing.swept != now {
            writing.swept = now;
            let expired = |entry: &&Entry| entry.get().is_some() && !self.fresh(entry, now);
            self.entries.iter().filter(expired).for_each(|entry| forget(entry, &mut writing.held));
        }
        let same = |entry: &&Entry| entry.get().is_some_and(|(m, _)| m == mac);
        let moved = self.ways(mac).iter().find(same);
        let free = |entry: &&Entry| entry.get().is_none() || !self.fresh(entry, now);
        let Some(entry) = moved.or_else(|| self.ways(mac).iter().find(free)) else { return };
        if writing.held[usize::from(port)] >= share {
            return;
        }
        forget(entry, &mut writing.held);
        writing.held[usize::from(port)] += 1;
        entry.seen.store(now, Ordering::Relaxed);
        entry.key.store(mac.0 | (u64::from(port) + 1) << 48, Ordering::Relaxed);
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// Forgets what was seen on a port: its peer has gone.
    pub fn flush(&self, port: u8) {
        let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let on_it = |entry: &&Entry| entry.get().is_some_and(|(_, p)| p == port);
        self.entries.iter().filter(on_it).for_each(|entry| forget(entry, &mut writing.held));
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// Addresses known on a port.
    pub fn held(&self, port: u8, now: u32) -> usize {
        let on_it = |entry: &&Entry| entry.get().is_some_and(|(_, p)| p == port) && self.fresh(entry, now);
        self.entries.iter().filter(on_it).count()
    }
}

fn forget(entry: &Entry, held: &mut [usize]) {
    if let Some((_, port)) = entry.get() {
        held[usize::from(port)] -= 1;
        entry.key.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(number: u32) -> Mac {
        Mac::new(2 | u64::from(number.swap_bytes()) << 16)
    }

    #[test]
    fn learned_moved_aged_and_flushed() {
        let table = Table::new(3, 300);
        assert_eq!(table.find(mac(1), 0), None);
        table.learn(mac(1), 0, 10);
        assert_eq!(table.find(mac(1), 10), Some(0));
        let before = table.generation();
        table.learn(mac(1), 0, 200);
        assert_eq!(table.generation(), before, "still where it was");
        assert_eq!((table.find(mac(1), 499), table.find(mac(1), 500)), (Some(0), None));
        table.learn(mac(1), 2, 500);
        assert_eq!((table.find(mac(1), 500), table.held(0, 500), table.held(2, 500)), (Some(2), 0, 1));
        assert_ne!(table.generation(), before);
        table.flush(2);
        assert_eq!(table.find(mac(1), 500), None);
    }

    #[test]
    fn groups_are_never_learned() {
        let table = Table::new(2, 300);
        for group in [u64::MAX, 0x0100_005e_0001] {
            table.learn(Mac::new(group), 0, 0);
            assert_eq!(table.find(Mac::new(group), 0), None);
        }
    }

    #[test]
    fn a_port_that_invents_addresses_takes_its_share_only() {
        let table = Table::new(4, 300);
        (0..100_000).for_each(|number| table.learn(mac(number), 0, 1));
        assert_eq!(table.held(0, 1), ENTRIES / 4);
        (100_000..100_100).for_each(|number| table.learn(mac(number), 1, 1));
        assert!(table.held(1, 1) > 90, "{}", table.held(1, 1));
        table.learn(mac(200_000), 0, 301);
        assert_eq!(table.find(mac(200_000), 301), Some(0), "the old ones have expired");
    }
}
