//! The kinds of value, and how each is read.

use core::fmt;

/// What a value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole number, `k`, `m` and `g` allowed behind it, of 2^10, 2^20, 2^30.
    Number { min: u64, max: u64 },
    /// Bytes, written like a number.
    Size { min: u64, max: u64 },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// `all`, or some of these words with `+` between them.
    Some(&'static [&'static str]),
    /// [`Idle`].
    Idle,
    /// `A.B.C.D` or `A.B.C.D:PORT`.
    Peer,
    /// A path, which has no comma; `-`: none.
    File,
    /// A command line, which has no comma.
    Words,
}

/// What a CPU without work does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Halts at once.
    Halt,
    /// Looks for work this long, then halts.
    Spin { us: u32 },
    /// Never halts.
    Poll,
}

/// The word for every word that there is.
pub(super) const ALL: &str = "all";

/// Longest spin, ten seconds: beyond it `poll` is what is meant.
const SPIN_MAX_US: u32 = 10_000_000;

impl Idle {
    /// `halt`, `spin:US` or `poll`.
    pub fn parse(word: &str) -> Option<Idle> {
        match word {
            "halt" => Some(Idle::Halt),
            "poll" => Some(Idle::Poll),
            _ => {
                let us = word.strip_prefix("spin:")?.parse().ok()?;
                (us <= SPIN_MAX_US).then_some(Idle::Spin { us })
            }
        }
    }
}

impl Kind {
    /// Whether `word` is a value of this kind.
    pub fn accepts(self, word: &str) -> bool {
        match self {
            Kind::Number { min, max } | Kind::Size { min, max } => {
                number(word).is_some_and(|n| (min..=max).contains(&n))
            }
            Kind::Choice(words) => words.contains(&word),
            Kind::Some(words) => word == ALL || word.split('+').all(|one| words.contains(&one)),
            Kind::Idle => Idle::parse(word).is_some(),
            Kind::Peer => peer(word).is_some(),
            Kind::File | Kind::Words => !word.is_empty(),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Number { min, max } => write!(f, "a number from {min} to {max}"),
            Kind::Size { min, max } => write!(f, "bytes (k, m, g allowed) from {min} to {max}"),
            Kind::Choice(words) => {
                write!(f, "one of ")?;
                list(f, words)
            }
            Kind::Some(words) => {
                write!(f, "{ALL}, or some of ")?;
                list(f, words)?;
                write!(f, " joined by +")
            }
            Kind::Idle => write!(f, "halt, spin:MICROSECONDS or poll"),
            Kind::Peer => write!(f, "an address, A.B.C.D or A.B.C.D:PORT"),
            Kind::File => write!(f, "a path without a comma"),
            Kind::Words => write!(f, "a command line without a comma"),
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, words: &[&str]) -> fmt::Result {
    let mut words = words.iter();
    words.next().map_or(Ok(()), |word| f.write_str(word))?;
    words.try_for_each(|word| write!(f, ", {word}"))
}

/// A whole number with an optional `k`, `m` or `g`.
pub(super) fn number(word: &str) -> Option<u64> {
    let shift = match word.as_bytes().last()? {
        b'k' | b'K' => 10,
        b'm' | b'M' => 20,
        b'g' | b'G' => 30,
        _ => 0,
    };
    let digits = &word[..word.len() - usize::from(shift > 0)];
    if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// An IPv4 address and perhaps a port.
pub(super) fn peer(word: &str) -> Option<([u8; 4], Option<u16>)> {
    let (address, port) = match word.split_once(':') {
        Some((address, port)) => (address, Some(port.parse().ok()?)),
        None => (word, None),
    };
    let mut octets = [0; 4];
    let mut parts = address.split('.');
    for octet in &mut octets {
        *octet = parts.next()?.parse().ok()?;
    }
    parts.next().is_none().then_some((octets, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_addresses() {
        assert_eq!([number("0"), number("4k"), number("2G")], [Some(0), Some(4096), Some(2 << 30)]);
        for word in ["", "k", "-1", "+1", "1.5", "1kk", "20000000000g", "１"] {
            assert_eq!(number(word), None, "{word}");
        }
        assert_eq!(peer("10.0.0.1"), Some(([10, 0, 0, 1], None)));
        assert_eq!(peer("10.0.0.1:1300"), Some(([10, 0, 0, 1], Some(1300))));
        for word in ["", "10.0.0", "10.0.0.1.2", "10.0.0.256", "10.0.0.1:", "10.0.0.1:x"] {
            assert_eq!(peer(word), None, "{word}");
        }
    }

    #[test]
    fn spinning_has_a_bound() {
        assert_eq!(Idle::parse("spin:50"), Some(Idle::Spin { us: 50 }));
        for word in ["spin", "spin:", "spin:-1", "spin:10000001", "Halt"] {
            assert_eq!(Idle::parse(word), None, "{word}");
        }
    }
}
