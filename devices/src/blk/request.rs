//! What a chain asks of a disk (virtio 1.2 §5.2.6). Pure: nothing here touches a file.

use virtio_bindings::virtio_blk::*;

use crate::sys::segments::Segments;
use crate::virtio::chain::Chain;

/// Bytes of a sector, the unit of every position (§5.2.4), whatever the block size.
pub const SECTOR: u64 = 512;
/// Ranges of one discard or write-zeroes request.
pub const MOST_RANGES: usize = 16;
/// Sectors of one such range: 1 GiB.
pub const MOST_SECTORS: u32 = 1 << 21;
/// Bytes of a serial number (§5.2.6.1).
pub const SERIAL: usize = 20;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Read,
    Write,
    Flush,
    Discard,
    WriteZeroes,
    Serial,
}

impl Op {
    /// As the report names them, in the order of their numbers.
    pub const NAMES: [&str; 6] = ["read", "write", "flush", "discard", "write-zeroes", "serial"];

    pub fn name(self) -> &'static str {
        Op::NAMES[self as usize]
    }
}

/// A request that makes sense. Its data is what is left in the chain: the readable half of a write,
/// a discard and a write-zeroes, the writable half of a read and a serial number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    pub op: Op,
    /// Byte position; 0 where there is none.
    pub offset: u64,
    /// Bytes of data.
    pub len: u64,
}

/// The answer to a request: its last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Ok,
    IoError,
    Unsupported,
}

impl Answer {
    /// On the wire.
    pub fn code(self) -> u8 {
        match self {
            Answer::Ok => VIRTIO_BLK_S_OK as u8,
            Answer::IoError => VIRTIO_BLK_S_IOERR as u8,
            Answer::Unsupported => VIRTIO_BLK_S_UNSUPP as u8,
        }
    }
}

/// A range to give back or to zero (§5.2.6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub offset: u64,
    pub len: u64,
    /// The blocks may be given back.
    pub unmap: bool,
}

/// What a request may do.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub sectors: u64,
    pub read_only: bool,
}

/// Reads the header, moves the status byte into `status`, and checks the rest. `Err`: what to answer;
/// with an empty `status` there is no place for an answer.
pub fn parse(chain: &mut Chain, status: &mut Segments, limits: Limits) -> Result<Request, Answer> {
    chain.writable.split_tail(1, status);
    let mut header = [0; 16];
    if chain.readable.read(&mut header) < header.len() {
        return Err(Answer::IoError);
    }
    let [kind, _, low, high] = *header.as_chunks::<4>().0 else { return Err(Answer::IoError) };
    let sector = u64::from(u32::from_le_bytes(high)) << 32 | u64::from(u32::from_le_bytes(low));
    let (op, data) = match u32::from_le_bytes(kind) {
        VIRTIO_BLK_T_IN => (Op::Read, chain.writable.len()),
        VIRTIO_BLK_T_OUT => (Op::Write, chain.readable.len()),
        VIRTIO_BLK_T_FLUSH => (Op::Flush, 0),
        VIRTIO_BLK_T_DISCARD => (Op::Discard, chain.readable.len()),
        VIRTIO_BLK_T_WRITE_ZEROES => (Op::WriteZeroes, chain.readable.len()),
        VIRTIO_BLK_T_GET_ID => (Op::Serial, chain.writable.len()),
        _ => return Err(Answer::Unsupported),
    };
    let len = data as u64;
    if limits.read_only && matches!(op, Op::Write | Op::Discard | Op::WriteZeroes) {
        return Err(Answer::IoError);
    }
    let offset = match op {
        Op::Read | Op::Write => inside(sector, len, limits.sectors).ok_or(Answer::IoError)?,
        _ => 0,
    };
    Ok(Request { op, offset, len })
}

/// The byte position of `sector`, if `len` bytes from there are whole sectors of the disk.
fn inside(sector: u64, len: u64, sectors: u64) -> Option<u64> {
    let end = sector.checked_add(len / SECTOR)?;
    (len.is_multiple_of(SECTOR) && end <= sectors).then(|| sector * SECTOR)
}

/// The ranges of a discard or write-zeroes request.
pub fn ranges(op: Op, data: &mut Segments, limits: Limits) -> Result<Vec<Range>, Answer> {
    let count = data.len() / 16;
    if !data.len().is_multiple_of(16) || count == 0 || count > MOST_RANGES {
        return Err(Answer::IoError);
    }
    let mut bytes = [0; 16 * MOST_RANGES];
    let len = data.read(&mut bytes);
    let mut ranges = Vec::with_capacity(count);
    for &raw in bytes[..len].as_chunks::<16>().0 {
        let raw = u128::from_le_bytes(raw);
        let (sector, sectors, flags) = (raw as u64, (raw >> 64) as u32, (raw >> 96) as u32);
        // §5.2.6.2: discard knows no flag, write zeroes only "unmap".
        let known = if op == Op::WriteZeroes { VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP } else { 0 };
        if flags & !known != 0 {
            return Err(Answer::Unsupported);
        }
        if sectors > MOST_SECTORS {
            return Err(Answer::IoError);
        }
        let len = u64::from(sectors) * SECTOR;
        let offset = inside(sector, len, limits.sectors).ok_or(Answer::IoError)?;
        ranges.push(Range { offset, len, unmap: op == Op::Discard || flags != 0 });
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Memory;
    use crate::testing::machine::memory;
    use vm_memory::{Bytes, GuestAddress};

    const LIMITS: Limits = Limits { sectors: 100, read_only: false };

    /// A header of `kind` and `sector`, then `data` readable and `room` writable bytes.
    fn ask(kind: u32, sector: u64, data: &[u8], room: u32, limits: Limits) -> Result<Request, Answer> {
        let (mut chain, mut status) = chain(&memory(), kind, sector, data, room);
        parse(&mut chain, &mut status, limits)
    }

    fn chain(memory: &Memory, kind: u32, sector: u64, data: &[u8], room: u32) -> (Chain, Segments) {
        let mut chain = Chain::new(memory);
        let header = u128::from(kind) | u128::from(sector) << 64;
        memory.write_slice(&header.to_le_bytes(), GuestAddress(0x1000)).unwrap();
        memory.write_slice(data, GuestAddress(0x2000)).unwrap();
        // In pieces that do not respect the fields (§2.6.4: framing is the driver's affair).
        assert!(chain.readable.push(0x1000, 5) && chain.readable.push(0x1005, 11));
        assert!(chain.readable.push(0x2000, data.len() as u32) && chain.writable.push(0x8000, room));
        (chain, Segments::new(memory))
    }

    #[test]
    fn reads_and_writes_stay_on_the_disk() {
        let read = |sector, len: u32| ask(0, sector, &[], len + 1, LIMITS);
        assert_eq!(read(99, 512), Ok(Request { op: Op::Read, offset: 99 * 512, len: 512 }));
        for (sector, len) in
            [(99, 1024), (100, 512), (0, 511), (u64::MAX, 512), (u64::MAX / 512, 512), (u64::MAX / 2, 512)]
        {
            assert_eq!(read(sector, len), Err(Answer::IoError), "{sector} {len}");
        }
        assert_eq!(ask(1, 98, &[0; 1024], 1, LIMITS).map(|r| (r.op, r.len)), Ok((Op::Write, 1024)));
        let read_only = Limits { read_only: true, ..LIMITS };
        assert_eq!(ask(1, 0, &[0; 512], 1, read_only), Err(Answer::IoError));
    }

    #[test]
    fn unknown_kinds_are_unsupported() {
        for kind in [2, 3, 5, 16, 0x8000_0000, u32::MAX] {
            assert_eq!(ask(kind, 0, &[], 1, LIMITS), Err(Answer::Unsupported), "{kind}");
        }
    }

    #[test]
    fn without_room_for_a_status_there_is_none() {
        let memory = memory();
        let (mut request, mut status) = chain(&memory, 0, 0, &[], 0);
        let _ = parse(&mut request, &mut status, LIMITS);
        assert!(status.is_empty());
        let (mut request, _) = chain(&memory, 0, 0, &[], 1);
        request.readable.truncate(15);
        assert_eq!(parse(&mut request, &mut status, LIMITS), Err(Answer::IoError));
        assert_eq!(status.len(), 1);
    }

    #[test]
    fn ranges_are_checked_each() {
        let memory = memory();
        let range = |sector: u64, sectors: u32, flags: u32| {
            (u128::from(sector) | u128::from(sectors) << 64 | u128::from(flags) << 96).to_le_bytes()
        };
        let of = |op, bytes: &[u8]| {
            let (mut chain, _) = chain(&memory, 0, 0, bytes, 1);
            chain.readable.skip(16);
            ranges(op, &mut chain.readable, LIMITS)
        };
        assert_eq!(of(Op::Discard, &range(1, 2, 0)), Ok(vec![Range { offset: 512, len: 1024, unmap: true }]));
        assert_eq!(of(Op::Discard, &range(1, 2, 1)), Err(Answer::Unsupported));
        assert_eq!(of(Op::WriteZeroes, &range(1, 2, 1)).map(|r| r[0].unmap), Ok(true));
        assert_eq!(of(Op::WriteZeroes, &range(1, 2, 2)), Err(Answer::Unsupported));
        assert_eq!(of(Op::Discard, &[range(0, 1, 0), range(99, 2, 0)].concat()), Err(Answer::IoError));
        assert_eq!(of(Op::Discard, &range(u64::MAX, 1, 0)), Err(Answer::IoError));
        assert_eq!(of(Op::Discard, &[]), Err(Answer::IoError));
        assert_eq!(of(Op::Discard, &[0; 17]), Err(Answer::IoError));
        assert_eq!(of(Op::Discard, &[0; 16 * 17]), Err(Answer::IoError));
    }
}
