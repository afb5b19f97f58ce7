//! `--memory`, `--thp`, `--hugepages`, `--prefault`: how much guest memory, and what backs it.

use std::fmt;
use std::num::IntErrorKind;
use std::str::FromStr;

use super::word::{self, UnknownWord};

/// Guest memory: how much, and what backs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Bytes, a multiple of the backing's page size.
    pub size: u64,
    pub backing: Backing,
    pub prefault: bool,
    /// Other processes get it, too: those that serve vhost-user devices.
    pub shared: bool,
}

/// The pages behind guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// 4 KiB pages, kept so by MADV_NOHUGEPAGE.
    Small,
    /// Transparent huge pages, asked for by MADV_HUGEPAGE.
    Thp,
    /// 2 MiB pages from the pool.
    Huge2M,
    /// 1 GiB pages from the pool.
    Huge1G,
}

impl Backing {
    /// The size of the pages asked for, in bytes.
    pub fn page_size(self) -> u64 {
        match self {
            Backing::Small => 4 << 10,
            Backing::Thp | Backing::Huge2M => 2 << 20,
            Backing::Huge1G => 1 << 30,
        }
    }

    /// What the size of guest memory must be a multiple of: transparent huge pages may end in small ones.
    fn granule(self) -> u64 {
        match self {
            Backing::Small | Backing::Thp => 4 << 10,
            Backing::Huge2M | Backing::Huge1G => self.page_size(),
        }
    }

    /// `--thp` and `--hugepages` as typed.
    pub fn new(thp: Option<bool>, pool: Option<Pool>) -> Result<Backing, MemoryError> {
        match (thp, pool.unwrap_or(Pool::Off)) {
            (Some(true), Pool::Huge2M | Pool::Huge1G) => Err(MemoryError::TwoBackings),
            (_, Pool::Huge2M) => Ok(Backing::Huge2M),
            (_, Pool::Huge1G) => Ok(Backing::Huge1G),
            (Some(false), Pool::Off) => Ok(Backing::Small),
            (_, Pool::Off) => Ok(Backing::Thp),
        }
    }
}

/// `--hugepages` as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    Off,
    Huge2M,
    Huge1G,
}

impl FromStr for Pool {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Pool, UnknownWord> {
        word::choose(text, &[("2M", Pool::Huge2M), ("1G", Pool::Huge1G), ("off", Pool::Off)])
    }
}

/// Why guest memory cannot be so.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    #[error("not a size; a whole number and K, M, G or T, as in 512M")]
    NotASize,
    #[error("at least {}: a kernel and its page tables must fit{}", Size(MIN), hint(*.0))]
    TooSmall(u64),
    #[error("at most {}: more than a process can map", Size(MAX))]
    TooLarge,
    #[error("not a multiple of {}, the page size; {} and {} are", Size(*granule), Size(*below), Size(*above))]
    Odd { granule: u64, below: u64, above: u64 },
    #[error("excludes --thp=on: memory comes from the pool or from transparent huge pages, not both")]
    TwoBackings,
}

/// Whoever types a bare number means megabytes.
fn hint(size: u64) -> String {
    let megabytes = size << 20;
    if (MIN >> 20..MIN).contains(&size) {
        format!("; did you mean {}?", Size(megabytes))
    } else {
        String::new()
    }
}

/// Below the first MiB live the boot structures, and a kernel wants some room above it.
const MIN: u64 = 4 << 20;
/// Half of what a process on x86-64 has for itself (128 TiB).
const MAX: u64 = 64 << 40;

impl Memory {
    /// Fits what was asked for together.
    pub fn new(size: Size, backing: Backing, prefault: bool) -> Result<Memory, MemoryError> {
        let granule = backing.granule();
        let below = size.0 / granule * granule;
        if below != size.0 {
            return Err(MemoryError::Odd {
                granule,
                below: below.max(granule),
                above: below.max(granule) + granule,
            });
        }
        Ok(Memory { size: size.0, backing, prefault, shared: false })
    }
}

/// Bytes, as people write them: `512M`, `4G`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = MemoryError;

    /// A size that guest memory can have.
    fn from_str(text: &str) -> Result<Size, MemoryError> {
        let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = &text[number.len()..];
        let shift = match unit.to_ascii_uppercase().as_str() {
            "" => 0,
            "K" | "KIB" => 10,
            "M" | "MIB" => 20,
            "G" | "GIB" => 30,
            "T" | "TIB" => 40,
            "P" | "PIB" | "E" | "EIB" if number.parse::<u64>().is_ok_and(|n| n > 0) => {
                return Err(MemoryError::TooLarge);
            }
            _ => return Err(MemoryError::NotASize),
        };
        let number = match number.parse::<u64>() {
            Ok(number) => number,
            Err(error) if *error.kind() == IntErrorKind::PosOverflow => return Err(MemoryError::TooLarge),
            Err(_) => return Err(MemoryError::NotASize),
        };
        match number.checked_mul(1 << shift) {
            Some(size) if size < MIN => Err(MemoryError::TooSmall(size)),
            Some(size) if size <= MAX => Ok(Size(size)),
            _ => Err(MemoryError::TooLarge),
        }
    }
}

impl fmt::Display for Size {
    /// In the largest unit that needs no fraction.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shift, unit) = match self.0.trailing_zeros() {
            40..=63 => (40, "T"),
            30..=39 => (30, "G"),
            20..=29 => (20, "M"),
            10..=19 => (10, "K"),
            _ => (0, ""),
        };
        write!(f, "{}{unit}", self.0 >> shift)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_people_write_them() {
        for (text, size) in
            [("512M", 512 << 20), ("4G", 4 << 30), ("4GiB", 4 << 30), ("268435456", 256 << 20)]
        {
            assert_eq!(text.parse(), Ok(Size(size)), "{text}");
        }
        for text in ["", "M", "-1M", "1.5G", "1X", "0x100M", " 4G", "4 G", "é"] {
            assert_eq!(text.parse::<Size>(), Err(MemoryError::NotASize), "{text}");
        }
        for text in ["1E", "65T", "99999999999999999999", "99999999999T"] {
            assert_eq!(text.parse::<Size>(), Err(MemoryError::TooLarge), "{text}");
        }
        assert_eq!(
            "0".parse::<Size>().unwrap_err().to_string(),
            "at least 4M: a kernel and its page tables must fit"
        );
        let bare = "512".parse::<Size>().unwrap_err().to_string();
        assert!(bare.ends_with("; did you mean 512M?"), "{bare}");
    }

    #[test]
    fn a_size_is_whole_pages() {
        let odd = Memory::new(Size(0x40_0001), Backing::Thp, false).unwrap_err();
        assert_eq!(odd.to_string(), "not a multiple of 4K, the page size; 4M and 4100K are");
        let odd = Memory::new(Size(512 << 20), Backing::Huge1G, false).unwrap_err();
        assert_eq!(odd.to_string(), "not a multiple of 1G, the page size; 1G and 2G are");
        assert!(Memory::new(Size(0x40_1000), Backing::Thp, false).is_ok());
    }

    #[test]
    fn one_backing() {
        assert_eq!(Backing::new(None, None), Ok(Backing::Thp));
        assert_eq!(Backing::new(Some(false), None), Ok(Backing::Small));
        assert_eq!(Backing::new(Some(false), Some(Pool::Huge1G)), Ok(Backing::Huge1G));
        assert_eq!(Backing::new(Some(true), Some(Pool::Off)), Ok(Backing::Thp));
        assert_eq!(Backing::new(Some(true), Some(Pool::Huge2M)), Err(MemoryError::TwoBackings));
    }
}
