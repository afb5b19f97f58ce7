//! What the programs have counted: bytes of maps → rows.

use std::io;

use abi::histogram::{BUCKETS, Histogram};

use super::program::{Event, ISA_SHIFT, KEY, KIND_SHIFT, Maps, NO_REASON, OTHER, THREAD_SHIFT, row, state};

/// What exits are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Place in the list of threads.
    pub thread: usize,
    pub reason: Reason,
    pub detail: Option<Detail>,
}

/// Why the processor left the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// By `isa` of the tracepoint, and the processor's number.
    Exit { isa: u8, number: u32 },
    /// A detail where this host shows no exits.
    None,
    /// For whatever found no row.
    Other,
}

/// What an exit was about: kind as in [`program::kind`], and port, address or register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detail {
    pub kind: u8,
    pub address: u64,
}

/// Exits of one kind.
#[derive(Clone, Debug)]
pub struct Row {
    pub key: Key,
    pub count: u64,
    /// From exit to entry, without sleep: nanoseconds.
    pub times: Histogram,
    /// Asleep, or polling for work, during these exits.
    pub asleep_ns: u64,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Traced {
    pub rows: Vec<Row>,
    /// How often each thread has passed each tracepoint, in order of [`Event::ALL`].
    pub fired: Vec<[u64; Event::ALL.len()]>,
    /// Exits that came while another was open: they are in no row.
    pub unpaired: u64,
    /// Times that a program was passed over, by any thread of this host.
    pub missed: u64,
    /// Tracepoints that this kernel has.
    pub present: Vec<Event>,
}

impl Traced {
    /// How often the first `threads` threads have passed `event`.
    pub fn fired(&self, event: Event, threads: usize) -> u64 {
        self.fired.iter().take(threads).map(|one| one[event as usize]).sum()
    }
}

/// The key of a thread's last row, for whatever finds no other.
pub fn last_row(thread: usize) -> [u8; KEY] {
    let mut key = [0; KEY];
    key[..8].copy_from_slice(&((thread as u64) << THREAD_SHIFT | OTHER).to_ne_bytes());
    key
}

/// Reads the maps.
pub fn read(maps: &Maps, threads: usize) -> io::Result<Traced> {
    let mut traced = Traced::default();
    let mut key = [0; KEY];
    let mut first = true;
    let mut value = [0; row::SIZE];
    while maps.rows.next(&mut key, first)? {
        first = false;
        if maps.rows.get(&key, &mut value)? {
            traced.rows.extend(Some(parse(&key, &value)).filter(|row| row.count > 0));
        }
    }
    let mut value = [0; state::SIZE];
    for thread in 0..threads as u32 {
        maps.states.get(&thread.to_ne_bytes(), &mut value)?;
        traced.add(thread as usize, &value);
    }
    Ok(traced)
}

impl Traced {
    /// A thread's state: what it has passed, and the exit that no entry has closed.
    fn add(&mut self, thread: usize, state: &[u8; state::SIZE]) {
        self.fired.push(std::array::from_fn(|event| word(state, state::FIRED as usize + 8 * event)));
        self.unpaired += word(state, state::UNPAIRED as usize);
        if word(state, state::SINCE as usize) == 0 {
            return;
        }
        let key = key(word(state, state::REASON as usize), word(state, state::DETAIL as usize));
        let key = Key { thread, ..key };
        let asleep_ns = word(state, state::ASLEEP as usize);
        match self.rows.iter_mut().find(|row| row.key == key) {
            Some(row) => {
                row.count += 1;
                row.asleep_ns += asleep_ns;
            }
            None => self.rows.push(Row { key, count: 1, times: Histogram::new(), asleep_ns }),
        }
    }
}

fn parse(bytes: &[u8; KEY], value: &[u8; row::SIZE]) -> Row {
    let number = |offset: i16| word(value, offset as usize);
    let bucket = |i: usize| {
        let at = row::HISTOGRAM as usize + 4 * i;
        u32::from_ne_bytes([value[at], value[at + 1], value[at + 2], value[at + 3]])
    };
    let count = number(row::COUNT);
    let buckets: [u32; BUCKETS] = std::array::from_fn(bucket);
    Row {
        key: key(word(bytes, 0), word(bytes, 8)),
        count,
        times: Histogram::of(number(row::TOTAL), number(row::MAX), count, buckets),
        asleep_ns: number(row::ASLEEP),
    }
}

fn key(first: u64, second: u64) -> Key {
    let reason = match first & ((1 << THREAD_SHIFT) - 1) {
        NO_REASON => Reason::None,
        OTHER => Reason::Other,
        other => Reason::Exit { isa: (other >> ISA_SHIFT) as u8, number: other as u32 },
    };
    let kind = (second >> KIND_SHIFT) as u8;
    let detail = (kind != 0).then_some(Detail { kind, address: second & ((1 << KIND_SHIFT) - 1) });
    Key { thread: (first >> THREAD_SHIFT) as usize, reason, detail }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let word = bytes.get(at..at + 8).and_then(|word| word.try_into().ok());
    word.map_or(0, u64::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::program::kind;

    #[test]
    fn keys_are_read_as_they_are_written() {
        let first = 3u64 << THREAD_SHIFT | 2 << ISA_SHIFT | 0x7b;
        let second = u64::from(kind::PIO_WRITE) << KIND_SHIFT | 0x3f8;
        let expected = Key {
            thread: 3,
            reason: Reason::Exit { isa: 2, number: 0x7b },
            detail: Some(Detail { kind: kind::PIO_WRITE, address: 0x3f8 }),
        };
        assert_eq!(key(first, second), expected);
        assert_eq!(key(NO_REASON, 0), Key { thread: 0, reason: Reason::None, detail: None });
        // AMD's "invalid guest state" is -1, and no reason of ours.
        let invalid = key(2 << ISA_SHIFT | 0xffff_ffff, 0);
        assert_eq!(invalid.reason, Reason::Exit { isa: 2, number: u32::MAX });
        let bytes = last_row(254);
        assert_eq!(key(word(&bytes, 0), 0), Key { thread: 254, reason: Reason::Other, detail: None });
    }

    #[test]
    fn a_thread_that_ended_in_an_exit_has_it_counted() {
        let mut bytes = [0; state::SIZE];
        bytes[state::SINCE as usize] = 1;
        bytes[state::REASON as usize] = 0x78;
        bytes[state::FIRED as usize] = 5;
        let mut traced = Traced::default();
        traced.add(0, &bytes);
        traced.add(0, &bytes);
        assert_eq!((traced.rows.len(), traced.rows[0].count), (1, 2));
        assert_eq!(traced.fired(Event::Exit, 1), 5);
        assert_eq!(traced.fired(Event::Exit, 0), 0);
    }
}
