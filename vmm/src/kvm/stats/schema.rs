//! What a statistics file says of itself: which values it holds, where, in which unit.
//!
//! Layout (KVM api.rst §4.133): a header of six `u32`, an id string, an array of descriptors of
//! `16 + name_size` bytes, and the data, `u64` each. Offsets are from the start of the file and are
//! read, not assumed. The file comes from the kernel, but from whichever kernel there is: nothing in
//! it is trusted to be in bounds, and what is unknown is skipped.

use std::io;
use std::os::unix::fs::FileExt;

/// Bytes of `struct kvm_stats_header`.
const HEADER: usize = 24;
/// Bytes of `struct kvm_stats_desc` before the name.
const DESCRIPTOR: usize = 16;
/// Bounds far beyond any kernel's (6.18 has 47 values of a vCPU, names of 48 bytes).
const MAX_DESCRIPTORS: u32 = 4096;
const MAX_NAME: u32 = 256;
const MAX_DATA: usize = 1 << 16;

/// What kind of value it is (`KVM_STATS_TYPE_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only ever counts up: the difference of two snapshots means something.
    Cumulative,
    /// A state of the moment.
    Instant,
    /// The largest so far.
    Peak,
    /// Buckets of equal width.
    LinearHistogram { width: u32 },
    /// Bucket 0 holds the value 0, bucket i holds `2^(i-1)..2^i`.
    LogHistogram,
}

/// What the value is counted in (`KVM_STATS_UNIT_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    None,
    Bytes,
    Seconds,
    Cycles,
    Boolean,
}

/// One value, or the buckets of one histogram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    pub name: Box<str>,
    pub kind: Kind,
    pub unit: Unit,
    /// 10 or 2, to the power of `exponent`, times `unit`: `10^-9 s` is a nanosecond.
    pub base: u8,
    pub exponent: i16,
    /// Index of the first word in the data.
    first: usize,
    /// Words; more than one for a histogram.
    words: usize,
}

impl Descriptor {
    /// This descriptor's words among the data of a file; empty if the data is too short.
    pub fn words<'a>(&self, data: &'a [u64]) -> &'a [u64] {
        data.get(self.first..).and_then(|rest| rest.get(..self.words)).unwrap_or(&[])
    }
}

/// All that a file says of itself. The same for every vCPU of a kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    descriptors: Vec<Descriptor>,
    data_offset: u64,
    words: usize,
}

/// A statistics file that contradicts itself.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    #[error("read KVM's statistics: {0}")]
    Read(#[from] io::Error),
    #[error("KVM's statistics: {what} of {value} is beyond any known kernel's")]
    Bound { what: &'static str, value: u64 },
}

impl Schema {
    /// Reads the self-description of `file`.
    pub fn read(file: &impl FileExt) -> Result<Schema, SchemaError> {
        let mut header = [0; HEADER];
        file.read_exact_at(&mut header, 0)?;
        let field = |i: usize| word(&header, i * 4);
        let (name_size, count) = (field(1), field(2));
        let (descriptors_at, data_at) = (u64::from(field(4)), u64::from(field(5)));
        bound("name size", name_size, MAX_NAME)?;
        bound("number of descriptors", count, MAX_DESCRIPTORS)?;
        let stride = DESCRIPTOR + name_size as usize;
        let mut bytes = vec![0; stride * count as usize];
        file.read_exact_at(&mut bytes, descriptors_at)?;
        let descriptors: Vec<Descriptor> = bytes.chunks_exact(stride).filter_map(describe).collect();
        let words = descriptors.iter().map(|d| d.first + d.words).max().unwrap_or(0);
        Ok(Schema { descriptors, data_offset: data_at, words })
    }

    /// Reads the data of `file` into `data`, which is reused: one system call, no allocation after
    /// the first.
    pub fn read_data(&self, file: &impl FileExt, data: &mut Vec<u64>) -> io::Result<()> {
        data.clear();
        let mut chunk = [0u8; 1024];
        let mut at = self.data_offset;
        while data.len() < self.words {
            let want = chunk.len().min((self.words - data.len()) * 8);
            let bytes = &mut chunk[..want];
            file.read_exact_at(bytes, at)?;
            at += want as u64;
            data.extend(bytes.chunks_exact(8).map(|word| {
                let mut eight = [0; 8];
                eight.copy_from_slice(word);
                u64::from_ne_bytes(eight)
            }));
        }
        Ok(())
    }

    /// The value of this name in `file`, alone: one system call.
    pub fn read_one(&self, name: &str, file: &impl FileExt) -> Option<u64> {
        let at = self.data_offset + 8 * self.find(name)?.first as u64;
        let mut word = [0; 8];
        file.read_exact_at(&mut word, at).ok()?;
        Some(u64::from_ne_bytes(word))
    }

    /// The descriptors, in the kernel's order.
    pub fn descriptors(&self) -> &[Descriptor] {
        &self.descriptors
    }

    /// The descriptor of this name.
    pub fn find(&self, name: &str) -> Option<&Descriptor> {
        self.descriptors.iter().find(|descriptor| &*descriptor.name == name)
    }
}

fn bound(what: &'static str, value: u32, most: u32) -> Result<(), SchemaError> {
    (value <= most).then_some(()).ok_or(SchemaError::Bound { what, value: value.into() })
}

/// One `struct kvm_stats_desc`; `None` for what cannot be used: an unknown type, no words, an offset
/// that is not a word's or is far outside.
fn describe(bytes: &[u8]) -> Option<Descriptor> {
    let flags = word(bytes, 0);
    let exponent = half(bytes, 4) as i16;
    let words = usize::from(half(bytes, 6));
    let offset = word(bytes, 8) as usize;
    let bucket_size = word(bytes, 12);
    let kind = match flags & 0xf {
        0 => Kind::Cumulative,
        1 => Kind::Instant,
        2 => Kind::Peak,
        3 => Kind::LinearHistogram { width: bucket_size },
        4 => Kind::LogHistogram,
        _ => return None,
    };
    let unit = match flags >> 4 & 0xf {
        1 => Unit::Bytes,
        2 => Unit::Seconds,
        3 => Unit::Cycles,
        4 => Unit::Boolean,
        _ => Unit::None,
    };
    let base = if flags >> 8 & 0xf == 1 { 2 } else { 10 };
    let first = offset / 8;
    if words == 0 || !offset.is_multiple_of(8) || first + words > MAX_DATA {
        return None;
    }
    let name = bytes.get(DESCRIPTOR..)?.split(|&byte| byte == 0).next()?;
    let name = std::str::from_utf8(name).ok().filter(|name| !name.is_empty())?.into();
    Some(Descriptor { name, kind, unit, base, exponent, first, words })
}

/// The native-endian `u32` at `at`; 0 beyond the end.
fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

fn half(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|two| two.try_into().ok()).map_or(0, u16::from_ne_bytes)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A file in memory.
    pub struct Bytes(pub Vec<u8>);

    impl FileExt for Bytes {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.0.len());
            let n = buffer.len().min(self.0.len() - from);
            buffer[..n].copy_from_slice(&self.0[from..from + n]);
            Ok(n)
        }
        fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    fn push(bytes: &mut Vec<u8>, words: &[u32]) {
        words.iter().for_each(|word| bytes.extend(word.to_ne_bytes()));
    }

    /// `(flags, exponent, words, offset, bucket size, name)` and the data, laid out as the kernel does
    /// but with gaps, so that no offset can be guessed.
    pub fn file(entries: &[(u32, i16, u16, u32, u32, &str)], data: &[u64]) -> Bytes {
        let mut bytes = Vec::new();
        let descriptors_at = 24 + 40;
        let data_at = descriptors_at + entries.len() as u32 * (16 + 24) + 8;
        push(&mut bytes, &[0, 24, entries.len() as u32, 24, descriptors_at, data_at]);
        bytes.resize(descriptors_at as usize, b'#');
        for (flags, exponent, words, offset, bucket_size, name) in entries {
            push(&mut bytes, &[*flags, u32::from(*exponent as u16) | u32::from(*words) << 16, *offset]);
            push(&mut bytes, &[*bucket_size]);
            bytes.extend(name.bytes().chain(std::iter::repeat(0)).take(24));
        }
        bytes.resize(data_at as usize, 0);
        data.iter().for_each(|word| bytes.extend(word.to_ne_bytes()));
        Bytes(bytes)
    }

    #[test]
    fn values_are_found_where_the_file_says() {
        let file = file(
            &[
                (0x000, 0, 1, 16, 0, "exits"),
                (0x020, -9, 1, 0, 0, "halt_wait_ns"),
                (0x041, 0, 1, 8, 0, "blocking"),
            ],
            &[5_000, 1, 77],
        );
        let schema = Schema::read(&file).unwrap();
        let mut data = Vec::new();
        schema.read_data(&file, &mut data).unwrap();
        let exits = schema.find("exits").unwrap();
        assert_eq!((exits.kind, exits.words(&data)), (Kind::Cumulative, &[77][..]));
        let wait = schema.find("halt_wait_ns").unwrap();
        assert_eq!((wait.unit, wait.base, wait.exponent), (Unit::Seconds, 10, -9));
        assert_eq!(wait.words(&data), [5_000]);
        assert_eq!(schema.find("blocking").unwrap().unit, Unit::Boolean);
        assert_eq!(schema.find("nothing"), None);
    }

    #[test]
    fn histograms_keep_all_their_buckets() {
        let file = file(&[(0x024, -9, 3, 0, 0, "log"), (0x103, 12, 2, 24, 50, "linear")], &[1, 2, 3, 4, 5]);
        let schema = Schema::read(&file).unwrap();
        let mut data = Vec::new();
        schema.read_data(&file, &mut data).unwrap();
        assert_eq!(schema.find("log").unwrap().words(&data), [1, 2, 3]);
        let linear = schema.find("linear").unwrap();
        assert_eq!((linear.kind, linear.base), (Kind::LinearHistogram { width: 50 }, 2));
        assert_eq!(linear.words(&data), [4, 5]);
        assert!(linear.words(&data[..4]).is_empty(), "short data gives nothing rather than a panic");
    }

    #[test]
    fn what_cannot_be_used_is_skipped() {
        let file = file(
            &[
                (0x00f, 0, 1, 0, 0, "type of a later kernel"),
                (0x000, 0, 0, 0, 0, "no words"),
                (0x000, 0, 1, 3, 0, "crooked"),
                (0x000, 0, 1, 0xffff_fff8, 0, "far"),
                (0x000, 0, 1, 0, 0, ""),
                (0xff0, 0, 1, 0, 0, "odd unit and base"),
            ],
            &[9],
        );
        let schema = Schema::read(&file).unwrap();
        assert_eq!(schema.descriptors().len(), 1);
        let odd = schema.find("odd unit and base").unwrap();
        assert_eq!((odd.unit, odd.base, odd.words(&[9])), (Unit::None, 10, &[9][..]));
    }

    #[test]
    fn truncated_and_absurd_files_are_errors() {
        let whole = file(&[(0, 0, 1, 0, 0, "exits")], &[1]);
        for len in 0..whole.0.len() - 8 - 8 {
            assert!(Schema::read(&Bytes(whole.0[..len].to_vec())).is_err(), "{len} bytes");
        }
        let short = Bytes(whole.0[..whole.0.len() - 1].to_vec());
        let schema = Schema::read(&short).unwrap();
        assert!(schema.read_data(&short, &mut Vec::new()).is_err());
        for field in [1, 2] {
            let mut absurd = whole.0.clone();
            absurd[field * 4..field * 4 + 4].fill(0xff);
            let error = Schema::read(&Bytes(absurd)).unwrap_err().to_string();
            assert!(error.contains("4294967295"), "{error}");
        }
        // Offsets beyond the end, and overflowing ones.
        for field in [4, 5] {
            let mut far = whole.0.clone();
            far[field * 4..field * 4 + 4].fill(0xff);
            let far = Bytes(far);
            let read = Schema::read(&far).and_then(|schema| Ok(schema.read_data(&far, &mut Vec::new())?));
            assert!(read.is_err());
        }
    }
}
