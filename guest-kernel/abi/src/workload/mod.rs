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
pub use table::{ALL, COMMON};
pub use value::{Idle, Kind};

/// One workload: what it is called, what may be said about it, where it can run.
#[derive(Debug)]
pub struct Workload {
    pub name: &'static str,
    /// What it does and what it shows, one line for the help.
    pub about: &'static str,
    pub places: Places,
    /// Its own keys; those of [`COMMON`] are accepted beside them.
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
    /// The key of this name, its own or a common one.
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().chain(COMMON).find(|key| key.name == name)
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
                let keys = || find(name).map_or(&[][..], |workload| workload.keys).iter().chain(COMMON);
                if let Some(near) = nearest(key, keys().map(|key| key.name)) {
                    write!(f, ", did you mean {near}?")?;
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
            for key in workload.keys.iter().chain(COMMON) {
                assert!(key.kind.accepts(key.default), "{} {}={}", workload.name, key.name, key.default);
                let same = workload.keys.iter().chain(COMMON).filter(|other| other.name == key.name);
                assert_eq!(same.count(), 1, "{} {}", workload.name, key.name);
            }
        }
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        let spec = Spec::parse("ipc,items=5k").unwrap();
        assert_eq!((spec.number("items"), spec.number("spin"), spec.idle()), (5 << 10, 2000, Idle::Halt));
        assert!(spec.given("items") && !spec.given("spin"));
        assert_eq!(Spec::parse("exit=3").unwrap().number("status"), 3);
        assert_eq!(Spec::parse("exit").unwrap().number("status"), 0);
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
            ("ready=1", "workload ready: key \"ready=1\" is not known"),
            ("exit=64", "status=64 is not valid"),
            ("ipc,", "key \"\" is not known"),
        ] {
            let refusal = Spec::parse(text).unwrap_err().to_string();
            assert!(refusal.contains(words), "{text}: {refusal}");
        }
    }
}
