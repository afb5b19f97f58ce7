//! The workload: what is there, then more of it.

use core::fmt::Write;

use abi::record::{Outcome, Record};
use abi::workload::Spec;
use workloads::Results;
use workloads::platform::{Disk as _, Platform, Unavailable};
use workloads::sys::words;

use super::find::{Found, find};
use super::record;
use crate::blk::Disk;
use crate::console::Console;
use crate::platform::Kernel;

/// A request has failed: the disk's, not this place's, fault.
struct Failed;

struct Journal<'m> {
    disk: Disk,
    page: &'m mut [u8],
    slots: u64,
    group: u64,
}

/// Finds, and goes on from there.
pub fn run(spec: &Spec<'_>, results: Results<'_>) -> Result<(), Unavailable> {
    Kernel.prepare(spec)?;
    let (size, group) = (spec.count("size"), spec.number("depth"));
    let disk = Disk::open_cached(spec.count("disk"), size, group as usize, spec.word("blk") == "poll")?;
    let slots = disk.capacity() / size as u64;
    if slots <= 2 * group {
        return Err(Unavailable("disk-too-small"));
    }
    // A disk with more slots than there can be memory for.
    let many = usize::try_from(slots).unwrap_or(usize::MAX).min(usize::MAX / 16);
    let mut record = Kernel.memory(8 * many + size, |memory| {
        let (numbers, page) = memory.split_at_mut(8 * many);
        let mut journal = Journal { disk, page, slots, group };
        let found = match journal.find(words(numbers)) {
            Ok(found) => found,
            Err(Failed) => return Record::without(spec.text(), Outcome::Failed("a-record-can-not-be-read")),
        };
        let _ = writeln!(Console::new(), "journal: found {} of {}", found.whole, found.highest);
        let start = Kernel.now();
        let deadline = match spec.number("seconds") {
            0 => u64::MAX,
            seconds => start.saturating_add(seconds * 1_000_000_000),
        };
        let mut last = found.whole;
        let end = last.saturating_add(spec.number("items"));
        while last < end && Kernel.now() < deadline {
            let next = end.min(last + group);
            if journal.write(last + 1..=next).is_err() {
                let record = Record::without(spec.text(), Outcome::Failed("a-record-can-not-be-kept"));
                return record.with("found", found.whole).with("kept", last);
            }
            last = next;
            let _ = writeln!(Console::new(), "journal: kept {last}");
        }
        let record = Record::new(spec.text(), "-", last - found.whole, Kernel.now() - start);
        record.with("found", found.whole).with("highest", found.highest).with("kept", last)
    })?;
    Kernel.counters(&mut |name, value| record = record.with(name, value));
    results(&record);
    Ok(())
}

impl Journal<'_> {
    /// Reads every slot, a group at a time.
    fn find(&mut self, numbers: &mut [u64]) -> Result<Found, Failed> {
        for (group, numbers) in numbers.chunks_mut(self.group as usize).enumerate() {
            let first = group as u64 * self.group;
            for tag in 0..numbers.len() as u32 {
                self.submit(tag, first + u64::from(tag), false)?;
            }
            self.wait(numbers.len())?;
            for (tag, number) in numbers.iter_mut().enumerate() {
                self.disk.copy(tag as u32, 0, self.page);
                *number = record::number(self.page).unwrap_or(0);
            }
        }
        Ok(find(numbers, self.group))
    }

    /// Writes a group and flushes.
    fn write(&mut self, group: core::ops::RangeInclusive<u64>) -> Result<(), Failed> {
        let mut tag = 0;
        for number in group {
            record::fill(number, self.page);
            self.disk.put(tag, self.page);
            self.submit(tag, number, true)?;
            tag += 1;
        }
        self.wait(tag as usize)?;
        if self.disk.flush(0) { self.wait(1) } else { Err(Failed) }
    }

    /// Starts the read or write of record `number`'s slot.
    fn submit(&mut self, tag: u32, number: u64, write: bool) -> Result<(), Failed> {
        let offset = number % self.slots * self.page.len() as u64;
        if self.disk.submit(tag, offset, write) { Ok(()) } else { Err(Failed) }
    }

    /// Waits for the end of so many.
    fn wait(&mut self, requests: usize) -> Result<(), Failed> {
        let ended = (0..requests).all(|_| self.disk.complete().is_some_and(|(_, well)| well));
        if ended { Ok(()) } else { Err(Failed) }
    }
}
