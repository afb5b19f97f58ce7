//! Workload names and their `key=value` grammar: `NAME[,key=value…]`.
//!
//! One table ([`ALL`]) is read by the monitor (which refuses before it boots), by its help, and by
//! the guests. A [`Spec`] is a text that the table has accepted: its readers cannot fail.
//!
//! ```
//! let spec = abi::workload::Spec::parse("ipc,items=5000,idle=spin:50").unwrap();
//! assert_eq!((spec.number("items"), spec.number("spin")), (5000, 2000));
//! assert_eq!(spec.idle(), abi::workload::Idle::Spin { us: 50 });
//! ```

mod nearest;
mod table;
mod value;

use core::fmt;

pub use nearest::nearest;
pub use table::{ALL, COMMON, STORMS};
pub use value::{Idle, Kind};

/// One workload: what it is called, what may be said about it, where it can run.
#[derive(Debug)]
pub struct Workload {
    pub name: &'static str,
    /// What it does and what it shows, one line for the help.
    pub about: &'static str,
    pub places: Places,
    /// Its own keys; those of [`COMMON`] that it uses are accepted beside them.
    pub keys: &'static [Key],
}

/// One key of the grammar.
#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    pub kind: Kind,
    /// What holds where the key is not given; itself a valid value.
    pub default: &'static str,
    pub about: &'static str,
}

/// A key of several workloads; others refuse it, for they would ignore it.
#[derive(Debug)]
pub struct Common {
    pub key: Key,
    /// The workloads, by name.
    pub of: &'static [&'static str],
}

/// Where a workload can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// `vmm workload NAME`, on the host's own kernel.
    pub native: bool,
    /// In a stock Linux guest, under the built-in init.
    pub linux: bool,
    /// In the built-in guest kernel.
    pub kernel: bool,
}

/// A workload with its keys, as accepted by the table.
#[derive(Clone, Copy, Debug)]
pub struct Spec<'a> {
    pub workload: &'static Workload,
    text: &'a str,
}

/// Why a text is no workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal<'a> {
    UnknownName { name: &'a str },
    UnknownKey { name: &'static str, key: &'a str },
    RepeatedKey { name: &'static str, key: &'a str },
    MissingValue { name: &'static str, key: &'a str },
    BadValue { name: &'static str, key: &'static str, value: &'a str, kind: Kind },
}

/// The workload of this name.
pub fn find(name: &str) -> Option<&'static Workload> {
    ALL.iter().find(|workload| workload.name == name)
}

impl Workload {
    /// Its keys: its own, then the common ones that it uses.
    pub fn all_keys(&self) -> impl Iterator<Item = &'static Key> + use<> {
        let (keys, name) = (self.keys, self.name);
        keys.iter()
            .chain(COMMON.iter().filter(move |common| common.of.contains(&name)).map(|common| &common.key))
    }

    /// The key of this name, its own or a common one.
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.all_keys().find(|key| key.name == name)
    }
}

impl<'a> Spec<'a> {
    /// Checks `NAME[,key=value…]` against the table. `NAME=VALUE` gives a workload's first own key
    /// (`exit=3`).
    pub fn parse(text: &'a str) -> Result<Spec<'a>, Refusal<'a>> {
        let head = text.split(',').next().unwrap_or("");
        let name = head.split('=').next().unwrap_or("");
        let workload = find(name).ok_or(Refusal::UnknownName { name })?;
        let spec = Spec { workload, text };
        if head.contains('=') && workload.keys.is_empty() {
            return Err(Refusal::UnknownKey { name: workload.name, key: head });
        }
        for (at, (key, value)) in spec.pairs().enumerate() {
            let known = workload.key(key).ok_or(Refusal::UnknownKey { name: workload.name, key })?;
            let value = value.ok_or(Refusal::MissingValue { name: workload.name, key })?;
            if !known.kind.accepts(value) {
                return Err(Refusal::BadValue {
                    name: workload.name,
                    key: known.name,
                    value,
                    kind: known.kind,
                });
            }
            if spec.pairs().take(at).any(|(earlier, _)| earlier == key) {
                return Err(Refusal::RepeatedKey { name: workload.name, key });
            }
        }
        Ok(spec)
    }

    /// The text as given.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// Keys and values in the order given.
    fn pairs(&self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> + use<'a> {
        let first = self.workload.keys.first().map_or("", |key| key.name);
        let mut parts = self.text.split(',');
        let head = parts.next().and_then(|head| head.split_once('=')).map(|(_, value)| (first, Some(value)));
        head.into_iter().chain(parts.map(|part| match part.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (part, None),
        }))
    }

    /// Whether the user said anything about `key`.
    pub fn given(&self, key: &str) -> bool {
        self.pairs().any(|(given, _)| given == key)
    }

    /// The word for `key`: as given, or its default.
    pub fn word(&self, key: &str) -> &'a str {
        let known = self.workload.key(key);
        debug_assert!(known.is_some(), "{} has no key {key}", self.workload.name);
        let given = self.pairs().find(|(given, _)| *given == key).and_then(|(_, value)| value);
        given.unwrap_or(known.map_or("", |key| key.default))
    }

    /// The number for `key`; sizes are in bytes.
    pub fn number(&self, key: &str) -> u64 {
        value::number(self.word(key)).unwrap_or(0)
    }

    /// The number for `key`, for use as a length or an index.
    pub fn count(&self, key: &str) -> usize {
        usize::try_from(self.number(key)).unwrap_or(usize::MAX)
    }

    /// Whether the switch `key` is on.
    pub fn on(&self, key: &str) -> bool {
        self.word(key) == "on"
    }

    /// Whether its memory is to be of 4 KiB pages.
    pub fn small_pages(&self) -> bool {
        self.workload.key("pages").is_some() && self.word("pages") == "4k"
    }

    /// Whether `one` is among the words for `key`.
    pub fn includes(&self, key: &str, one: &str) -> bool {
        let words = self.word(key);
        words == value::ALL || words.split('+').any(|word| word == one)
    }

    /// What a CPU without work does.
    pub fn idle(&self) -> Idle {
        Idle::parse(self.word("idle")).unwrap_or(Idle::Halt)
    }

    /// The address for `key`: IPv4, and the port if one was said.
    pub fn peer(&self, key: &str) -> Option<([u8; 4], Option<u16>)> {
        value::peer(self.word(key))
    }
}

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Refusal::UnknownName { name } => {
                write!(f, "workload {name:?} is not known")?;
                if let Some(near) = nearest(name, ALL.iter().map(|workload| workload.name)) {
                    write!(f, ", did you mean {near}?")?;
                }
                write!(f, " Known:")?;
                ALL.iter().try_for_each(|workload| write!(f, " {}", workload.name))
            }
            Refusal::UnknownKey { name, key } => {
                write!(f, "workload {name}: key {key:?} is not known")?;
                let keys = || find(name).into_iter().flat_map(Workload::all_keys);
                if keys().next().is_none() {
                    return write!(f, ": it has none");
                }
                match nearest(key, keys().map(|key| key.name)) {
                    Some(near) => write!(f, ", did you mean {near}?")?,
                    None => write!(f, ".")?,
                }
                write!(f, " Known:")?;
                keys().try_for_each(|key| write!(f, " {}", key.name))
            }
            Refusal::RepeatedKey { name, key } => write!(f, "workload {name}: key {key} is given twice"),
            Refusal::MissingValue { name, key } => {
                write!(f, "workload {name}: key {key} needs a value, {key}=…")
            }
            Refusal::BadValue { name, key, value, kind } => {
                write!(f, "workload {name}: {key}={value} is not valid, {key} is {kind}")
            }
        }
    }
}

impl core::error::Error for Refusal<'_> {}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn every_default_is_valid_and_no_name_appears_twice() {
        for (at, workload) in ALL.iter().enumerate() {
            assert!(!ALL[..at].iter().any(|other| other.name == workload.name), "{}", workload.name);
            for key in workload.all_keys() {
                assert!(key.kind.accepts(key.default), "{} {}={}", workload.name, key.name, key.default);
                let same = workload.all_keys().filter(|other| other.name == key.name);
                assert_eq!(same.count(), 1, "{} {}", workload.name, key.name);
            }
        }
    }

    #[test]
    fn a_common_key_is_of_workloads_that_there_are() {
        for common in COMMON {
            assert!(common.of.iter().all(|name| find(name).is_some()), "{}", common.key.name);
        }
    }

    #[test]
    fn what_would_be_ignored_is_refused() {
        for (text, words) in [
            (
                "blk,threads=2",
                "key \"threads\" is not known. Known: rw size depth disk file items blk seconds ring idle",
            ),
            ("null,pages=4k", "Known: calls gate seconds ring idle"),
            ("fault,idle=poll", "Known: kind ring"),
            ("exit,ring=0", "Known: status"),
            ("ready,idle=poll", "key \"idle\" is not known: it has none"),
        ] {
            let refusal = Spec::parse(text).unwrap_err().to_string();
            assert!(refusal.ends_with(words), "{text}: {refusal}");
        }
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        let spec = Spec::parse("ipc,items=5k").unwrap();
        assert_eq!((spec.number("items"), spec.number("spin"), spec.idle()), (5 << 10, 2000, Idle::Halt));
        assert!(spec.given("items") && !spec.given("spin"));
        assert_eq!(Spec::parse("exit=3").unwrap().number("status"), 3);
        assert_eq!(Spec::parse("exit").unwrap().number("status"), 0);
        let [all, some] = ["chaos=7", "chaos,what=pci+rings"].map(|text| Spec::parse(text).unwrap());
        assert_eq!((all.number("seed"), all.includes("what", "msrs")), (7, true));
        assert!(some.includes("what", "rings") && !some.includes("what", "msrs"));
    }

    #[test]
    fn refusals_name_the_object_and_what_would_do() {
        for (text, words) in [
            ("nul", "workload \"nul\" is not known, did you mean null?"),
            ("", "workload \"\" is not known"),
            ("ipc,item=3", "key \"item\" is not known, did you mean items?"),
            ("ipc,items=-1", "items=-1 is not valid, items is a number from 1"),
            ("ipc,items=99999999999999999999999", "is not valid"),
            ("ipc,items", "key items needs a value"),
            ("ipc,items=1,items=2", "key items is given twice"),
            ("null,gate=door", "gate is one of call, table, syscall"),
            ("ipc,idle=spin:", "idle is halt, spin:MICROSECONDS or poll"),
            ("chaos,what=ports+pcl", "what is all, or some of ports, mmio"),
            ("chaos,what=", "joined by +"),
            ("ready=1", "workload ready: key \"ready=1\" is not known"),
            ("exit=64", "status=64 is not valid"),
            ("ipc,", "key \"\" is not known"),
        ] {
            let refusal = Spec::parse(text).unwrap_err().to_string();
            assert!(refusal.contains(words), "{text}: {refusal}");
        }
    }
}
