//! The vmlinux inside a bzImage, unpacked here instead of in the guest: natively, on as many CPUs as
//! there are, and without a nested page fault or exit for each step of the way.
//!
//! LZ4 only, in the legacy frame that the kernel's build uses (lz4 -l): a magic number, then blocks of
//! 8 MiB, each with its compressed length before it and independent of the others. What is not this is
//! left to the guest's own decompressor. A kernel that is unpacked here runs where it was linked: without
//! KASLR.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use vm_memory::GuestMemoryMmap;

use super::image::{u16_at, u64_at};
use super::layout;
use super::segments::{self, Segment};
use crate::sys::guest_bytes;

const MAGIC: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];
/// LEGACY_BLOCKSIZE of lz4.
const BLOCK: usize = 8 << 20;
/// What LZ4 makes of 8 MiB that can't be compressed.
const COMPRESSED_MAX: u32 = (BLOCK + BLOCK / 255 + 16) as u32;
/// 512 MiB of kernel: more blocks than this are no kernel.
const BLOCKS_MAX: usize = 64;
/// Blocks that are unpacked before it is known where they belong.
const EARLY: usize = 2;
/// Where the first segment of a vmlinux is in its file: the linker aligns it (-z max-page-size).
const ALIGNMENT: u64 = 2 << 20;
/// ELF header and program headers lie in here.
const HEADERS: usize = 4096;

/// Compressed blocks of a vmlinux, found but not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vmlinux {
    /// `(offset in the file, bytes)`.
    blocks: Vec<(u64, usize)>,
}

/// Why it could not be unpacked: then the guest may try.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("read: {0}")]
    Read(#[from] io::Error),
    #[error("a block is damaged")]
    Block,
    #[error("what was packed is no vmlinux")]
    Elf,
    #[error("write to guest memory: {0}")]
    Write(#[from] vm_memory::GuestMemoryError),
}

/// What lies in guest memory now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unpacked {
    pub entry: u64,
    /// One past the last byte of the highest segment.
    pub end: u64,
}

/// Finds the blocks in `payload` (offset, bytes) of `file`; `None` where they are not LZ4's.
pub fn find(file: &File, payload: (u64, u64)) -> io::Result<Option<Vmlinux>> {
    let word = |at| {
        let mut word = [0; 4];
        file.read_exact_at(&mut word, at).map(|()| word)
    };
    // The build appends the unpacked length.
    let (mut at, end) = (payload.0, (payload.0 + payload.1).saturating_sub(4));
    if payload.1 < 12 || word(at)? != MAGIC {
        return Ok(None);
    }
    at += 4;
    let mut blocks = Vec::new();
    while at + 4 <= end {
        let bytes = u32::from_le_bytes(word(at)?);
        at += 4;
        if bytes == 0 || bytes > COMPRESSED_MAX || at + u64::from(bytes) > end || blocks.len() == BLOCKS_MAX {
            return Ok(None);
        }
        blocks.push((at, bytes as usize));
        at += u64::from(bytes);
    }
    Ok((!blocks.is_empty()).then_some(Vmlinux { blocks }))
}

/// What becomes of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Unpacked here, it needn't be moved.
    At(u64),
    /// Its segments are further apart in memory than in the file: unpacked above the kernel, and shared
    /// out from there.
    Above,
    /// It has nothing that is loaded.
    Nowhere,
}

impl Vmlinux {
    /// Unpacks into guest memory a kernel whose first segment belongs at `first`. `limit`: where memory
    /// below the PCI hole ends.
    ///
    /// No block is moved that can be unpacked in its place, and nothing is touched that the guest would
    /// not touch: what is above a kernel is what Linux takes first.
    pub fn unpack(
        &self,
        file: &File,
        memory: &GuestMemoryMmap,
        first: u64,
        limit: u64,
    ) -> Result<Unpacked, Error> {
        let base = first.checked_sub(ALIGNMENT).ok_or(Error::Elf)?;
        let unpack = |buffer: &mut Vec<u8>, (n, at): &(usize, u64)| {
            let fits = at.checked_add(BLOCK as u64).is_some_and(|end| end <= limit);
            let to = if fits { *at } else { return Err(Error::Elf) };
            let len = guest_bytes::with(memory, to, BLOCK, |to| block(file, self.blocks[*n], buffer, to))??;
            let whole = len == BLOCK || n + 1 == self.blocks.len();
            whole.then_some(()).ok_or(Error::Block)
        };

        // The first blocks go where they are sure to belong, once their headers have said so.
        let early: Vec<(usize, u64)> =
            (0..self.blocks.len().min(EARLY)).map(|n| (n, base + start(n))).collect();
        segments::in_parallel(&early, Vec::new, unpack)?;
        let (entry, segments) = guest_bytes::with(memory, base, HEADERS, |head| headers(head))?
            .filter(|(entry, segments)| sound(*entry, segments, self.blocks.len(), limit))
            .ok_or(Error::Elf)?;
        let places = places(&segments, self.blocks.len());
        if early.iter().any(|(n, at)| places[*n] != Place::At(*at)) {
            return Err(Error::Elf);
        }

        let end = segments.iter().map(|s| s.end).fold(0, u64::max);
        let mut above = places.iter().fold(end, |above, place| match place {
            Place::At(at) => above.max(at + BLOCK as u64),
            _ => above,
        });
        let (mut rest, mut shared) = (Vec::new(), Vec::new());
        for (n, place) in places.into_iter().enumerate().skip(early.len()) {
            match place {
                Place::At(at) => rest.push((n, at)),
                Place::Above => {
                    rest.push((n, above));
                    shared.push((n, above));
                    above += BLOCK as u64;
                }
                Place::Nowhere => {}
            }
        }
        segments::in_parallel(&rest, Vec::new, unpack)?;
        for segment in &segments {
            for (n, at) in &shared {
                let part = part(segment, *n);
                if !part.is_empty() {
                    let to = segment.address + (part.start - segment.offset);
                    down(memory, at + (part.start - start(*n)), to, part.end - part.start)?;
                }
            }
            // What follows in the file may lie there now.
            let zeros = segment.address + segment.bytes;
            guest_bytes::with(memory, zeros, (segment.end - zeros) as usize, |bytes| bytes.fill(0))?;
        }
        Ok(Unpacked { entry, end })
    }
}

/// Where block `n` begins in what was packed.
fn start(n: usize) -> u64 {
    (n * BLOCK) as u64
}

/// What `segment` has of block `n`, in what was packed.
fn part(segment: &Segment, n: usize) -> Range<u64> {
    segment.offset.max(start(n))..(segment.offset + segment.bytes).min(start(n + 1))
}

/// Whether these can be the segments of a kernel of `blocks` blocks: in order, apart, within bounds.
fn sound(entry: u64, segments: &[Segment], blocks: usize, limit: u64) -> bool {
    let apart = |w: &[Segment]| w[0].offset + w[0].bytes <= w[1].offset && w[0].end <= w[1].address;
    let (Some(first), Some(last)) = (segments.first(), segments.last()) else { return false };
    segments.windows(2).all(apart)
        && last.end <= limit
        && last.offset + last.bytes <= start(blocks)
        && first.address.min(entry) >= layout::KERNEL
}

/// Where the blocks of sound segments go; those that stay where they are unpacked don't overlap.
fn places(segments: &[Segment], blocks: usize) -> Vec<Place> {
    let mut free = 0;
    let place = |n| {
        let parts = segments.iter().filter(|s| !part(s, n).is_empty());
        let mut wanted = parts.map(|s| (s.address + start(n)).checked_sub(s.offset));
        match wanted.next() {
            None => Place::Nowhere,
            Some(Some(at)) if at >= free && wanted.all(|other| other == Some(at)) => {
                free = at + BLOCK as u64;
                Place::At(at)
            }
            Some(_) => Place::Above,
        }
    };
    (0..blocks).map(place).collect()
}

/// Copies `len` bytes down in guest memory.
fn down(memory: &GuestMemoryMmap, from: u64, to: u64, len: u64) -> Result<(), Error> {
    let by = (from - to) as usize;
    let len = len as usize;
    Ok(guest_bytes::with(memory, to, by + len, |all| all.copy_within(by..by + len, 0))?)
}

/// Unpacks one block; how long it is. `buffer` is kept from block to block.
fn block(
    file: &File,
    (at, bytes): (u64, usize),
    buffer: &mut Vec<u8>,
    to: &mut [u8],
) -> Result<usize, Error> {
    if buffer.len() < bytes {
        *buffer = vec![0; bytes];
    }
    let packed = &mut buffer[..bytes];
    file.read_exact_at(packed, at)?;
    lz4_flex::block::decompress_into(packed, to).map_err(|_| Error::Block)
}

/// Entry point and segments of a 64-bit ELF executable.
fn headers(head: &[u8]) -> Option<(u64, Vec<Segment>)> {
    if !head.starts_with(b"\x7fELF\x02\x01") || u16_at(head, 18)? != 62 || u16_at(head, 54)? != 56 {
        return None;
    }
    let table = usize::try_from(u64_at(head, 32)?).ok()?;
    let count = usize::from(u16_at(head, 56)?);
    let table = head.get(table..)?.get(..count * 56)?;
    Some((u64_at(head, 24)?, table.chunks_exact(56).filter_map(Segment::read).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use vm_memory::{Bytes, GuestAddress};

    const MIB: u64 = 1 << 20;
    const B: u64 = BLOCK as u64;
    /// `(offset, address, bytes, bytes in memory, content)`: the first over two blocks; three that share
    /// a block and are nearer to each other in memory than there; the last of them reaches into a block
    /// of its own.
    const SEGMENTS: [(u64, u64, u64, u64, u8); 4] = [
        (2 * MIB, 4 * MIB, 14 * MIB + 0x1000, 14 * MIB + 0x1000, 1),
        (2 * B + 0x2000, 18 * MIB + 0x1000, 0x1000, 0x1000, 2),
        (2 * B + 0x4000, 18 * MIB + 0x2000, B - 0x4000, B - 0x4000, 3),
        (3 * B + 0x1000, 26 * MIB - 0x1000, 0x1000, 0x2800, 4),
    ];

    fn vmlinux() -> Vec<u8> {
        let mut elf = vec![0xee; BLOCK * 3 + 0x5000];
        elf[..0x1000].fill(0);
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[18] = 62;
        elf[24..32].copy_from_slice(&(4 * MIB).to_le_bytes());
        elf[32] = 64;
        elf[54] = 56;
        elf[56] = SEGMENTS.len() as u8;
        for (n, (offset, address, bytes, in_memory, content)) in SEGMENTS.into_iter().enumerate() {
            let at = 64 + n * 56;
            elf[at] = 1;
            for (field, value) in [(8, offset), (24, address), (32, bytes), (40, in_memory)] {
                elf[at + field..at + field + 8].copy_from_slice(&value.to_le_bytes());
            }
            elf[offset as usize..(offset + bytes) as usize].fill(content);
        }
        elf
    }

    fn packed(plain: &[u8]) -> (File, (u64, u64)) {
        let mut bytes = b"setup".to_vec();
        bytes.extend(MAGIC);
        for block in plain.chunks(BLOCK) {
            let block = lz4_flex::block::compress(block);
            bytes.extend((block.len() as u32).to_le_bytes());
            bytes.extend(block);
        }
        bytes.extend((plain.len() as u32).to_le_bytes());
        let mut file = vmm_sys_util::tempfile::TempFile::new().unwrap().into_file();
        file.write_all(&bytes).unwrap();
        (file, (5, bytes.len() as u64 - 5))
    }

    const LIMIT: u64 = 64 * MIB;

    fn memory() -> GuestMemoryMmap {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), LIMIT as usize)]).unwrap()
    }

    #[test]
    fn segments_land_whole_wherever_their_blocks_go() {
        let (file, payload) = packed(&vmlinux());
        let memory = memory();
        let found = find(&file, payload).unwrap().unwrap();
        let unpacked = found.unpack(&file, &memory, 4 * MIB, LIMIT).unwrap();
        assert_eq!(unpacked, Unpacked { entry: 4 * MIB, end: 26 * MIB + 0x1800 });
        for (_, address, bytes, in_memory, content) in SEGMENTS {
            let mut loaded = vec![0xff; in_memory as usize];
            memory.read_slice(&mut loaded, GuestAddress(address)).unwrap();
            let (file, zeros) = loaded.split_at(bytes as usize);
            assert!(file.iter().all(|byte| *byte == content), "segment {content}");
            assert!(zeros.iter().all(|byte| *byte == 0), "behind segment {content}");
        }
    }

    #[test]
    fn a_block_is_unpacked_in_its_place_if_it_has_one() {
        let segments = SEGMENTS.map(|(offset, address, bytes, in_memory, _)| Segment {
            offset,
            address,
            bytes,
            end: address + in_memory,
        });
        let at = |n: u64| Place::At(2 * MIB + n * B);
        assert_eq!(
            places(&segments, 5),
            [at(0), at(1), Place::Above, Place::At(26 * MIB - 0x2000), Place::Nowhere]
        );
        // Where the third block is left in its place, the fourth would lie over its end.
        let near = [segments[0], Segment { address: 18 * MIB, end: 0, ..segments[2] }, segments[3]];
        let near = [near[0], Segment { offset: 2 * B + 0x1000, ..near[1] }, near[2]];
        assert_eq!(places(&near, 4)[2..], [Place::Above, Place::At(26 * MIB - 0x2000)]);
    }

    #[test]
    fn what_is_cut_damaged_or_too_large_is_left_to_the_guest() {
        let (file, payload) = packed(&vmlinux());
        assert_eq!(find(&file, (payload.0, payload.1 - 100)).unwrap(), None);
        assert_eq!(find(&file, (payload.0 + 1, payload.1 - 1)).unwrap(), None);
        let found = find(&file, payload).unwrap().unwrap();
        assert!(matches!(found.unpack(&file, &memory(), 4 * MIB, 20 * MIB), Err(Error::Elf)));
        assert!(matches!(found.unpack(&file, &memory(), 5 * MIB, LIMIT), Err(Error::Elf)));
        assert!(matches!(found.unpack(&file, &memory(), MIB, LIMIT), Err(Error::Elf)));
        file.write_all_at(&[0xff; 64], payload.0 + 16).unwrap();
        assert!(found.unpack(&file, &memory(), 4 * MIB, LIMIT).is_err());
    }
}
