//! What a workload found, as one line of text to [`crate::port::RECORD`] (or standard output):
//!
//! ```text
//! ipc,items=5000 - ok ops=5000 ns=91000000 halts=12 halts_avoided=9988
//! null,gate=syscall read-only unavailable:ring-0-is-interpreted ops=0 ns=0
//! ```
//!
//! The workload as given, which part of it, how it ended, then whole numbers; those with a unit
//! carry it in their name (`p99_ns`, `bytes`).

use core::fmt::{self, Write};

/// Most numbers beside `ops` and `ns`.
pub const VALUES: usize = 14;
/// Longest line, with its newline; longer ones are cut by the writer and refused by the reader.
pub const LINE: usize = 512;

/// How a workload, or a part of one, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    Ok,
    /// This place cannot do it, and why: words joined by `-`.
    Unavailable(&'a str),
    /// It was tried and went wrong.
    Failed(&'a str),
}

/// One result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// `NAME[,key=value…]` as given.
    pub workload: &'a str,
    /// `read-only`, `triad`; `-` where the workload has one part.
    pub part: &'a str,
    pub outcome: Outcome<'a>,
    /// What was done so many times is the workload's unit: a call, an item, a datagram.
    pub ops: u64,
    /// Nanoseconds that all of `ops` took together.
    pub ns: u64,
    values: [(&'a str, u64); VALUES],
    len: usize,
}

impl<'a> Record<'a> {
    /// A result without further numbers.
    pub const fn new(workload: &'a str, part: &'a str, ops: u64, ns: u64) -> Record<'a> {
        Record { workload, part, outcome: Outcome::Ok, ops, ns, values: [("", 0); VALUES], len: 0 }
    }

    /// No result, and why.
    pub const fn without(workload: &'a str, outcome: Outcome<'a>) -> Record<'a> {
        Record { workload, part: "-", outcome, ops: 0, ns: 0, values: [("", 0); VALUES], len: 0 }
    }

    /// Adds a number; one too many is left out.
    pub fn with(mut self, name: &'a str, value: u64) -> Record<'a> {
        if let Some(slot) = self.values.get_mut(self.len) {
            *slot = (name, value);
            self.len += 1;
        }
        self
    }

    /// The further numbers, in order.
    pub fn values(&self) -> &[(&'a str, u64)] {
        &self.values[..self.len]
    }

    /// The further number of this name.
    pub fn value(&self, name: &str) -> Option<u64> {
        self.values().iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// The line, without its newline.
    pub fn encode(&self, out: &mut dyn Write) -> fmt::Result {
        write!(out, "{} {} ", self.workload, self.part)?;
        match self.outcome {
            Outcome::Ok => write!(out, "ok")?,
            Outcome::Unavailable(why) => write!(out, "unavailable:{why}")?,
            Outcome::Failed(why) => write!(out, "failed:{why}")?,
        }
        write!(out, " ops={} ns={}", self.ops, self.ns)?;
        self.values().iter().try_for_each(|(name, value)| write!(out, " {name}={value}"))
    }

    /// A guest may write anything: what is no record is `None`.
    pub fn decode(line: &'a str) -> Option<Record<'a>> {
        if line.len() >= LINE || line.contains(|c: char| c.is_control()) {
            return None;
        }
        let mut words = line.split(' ');
        let (workload, part, outcome) = (words.next()?, words.next()?, words.next()?);
        let outcome = match outcome.split_once(':') {
            None if outcome == "ok" => Outcome::Ok,
            Some(("unavailable", why)) => Outcome::Unavailable(why),
            Some(("failed", why)) => Outcome::Failed(why),
            _ => return None,
        };
        let mut number = |name: &str| words.next()?.strip_prefix(name)?.strip_prefix('=')?.parse().ok();
        let mut record = Record { outcome, ..Record::new(workload, part, number("ops")?, number("ns")?) };
        for word in words {
            let (name, value) = word.split_once('=')?;
            if record.len == VALUES {
                return None;
            }
            record = record.with(name, value.parse().ok()?);
        }
        (!workload.is_empty() && !part.is_empty()).then_some(record)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::String;

    #[test]
    fn every_record_survives_the_wire() {
        let full = Record::new("ipc,items=5", "-", 5, u64::MAX).with("halts", 2).with("p99_ns", 7);
        let none = Record::without("null,gate=syscall", Outcome::Unavailable("ring-0-is-interpreted"));
        for record in [full, none, Record::without("udp", Outcome::Failed("no-queue"))] {
            let mut line = String::new();
            record.encode(&mut line).unwrap();
            assert_eq!(Record::decode(&line), Some(record), "{line}");
        }
        assert_eq!(full.value("halts"), Some(2));
        assert_eq!(full.value("kicks"), None);
    }

    #[test]
    fn noise_is_no_record() {
        let endless = "x".repeat(LINE);
        for line in [
            "",
            "ipc - ok",
            "ipc - ok ops=1",
            "ipc - ok ns=1 ops=1",
            "ipc - fine ops=1 ns=1",
            "ipc - ok ops=-1 ns=1",
            "ipc - ok ops=1 ns=1 halts",
            "ipc - ok ops=1 ns=1 ",
            "ipc - ok ops=1 ns=1\u{7}",
            " - ok ops=1 ns=1",
            &endless,
        ] {
            assert_eq!(Record::decode(line), None, "{line:?}");
        }
    }
}
