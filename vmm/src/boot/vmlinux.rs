//! The vmlinux inside a bzImage, unpacked here instead of in the guest: natively, on as many CPUs as
//! there are, and without a nested page fault or exit for each step of the way.
//!
//! LZ4 only, in the legacy frame that the kernel's build uses (lz4 -l): a magic number, then blocks of
//! 8 MiB, each with its compressed length before it and independent of the others. What is not this is
//! left to the guest's own decompressor. A kernel that is unpacked here runs where it was linked: without
//! KASLR.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use vm_memory::GuestMemoryMmap;

use super::image::{u16_at, u64_at};
use super::segments::{self, Segment};
use crate::sys::guest_bytes;

const MAGIC: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];
/// LEGACY_BLOCKSIZE of lz4.
const BLOCK: usize = 8 << 20;
/// What LZ4 makes of 8 MiB that can't be compressed.
const COMPRESSED_MAX: u32 = (BLOCK + BLOCK / 255 + 16) as u32;
/// 512 MiB of kernel: more blocks than this are no kernel.
const BLOCKS_MAX: usize = 64;

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

impl Vmlinux {
    /// Unpacks into guest memory. `limit`: where memory below the PCI hole ends.
    ///
    /// The whole file goes where its first segment belongs, and the other segments are moved from there:
    /// so nothing is touched that the guest would not touch.
    pub fn unpack(&self, file: &File, memory: &GuestMemoryMmap, limit: u64) -> Result<Unpacked, Error> {
        let mut head = vec![0; BLOCK];
        let len = block(file, self.blocks[0], &mut head)?;
        let (entry, segments) = headers(&head[..len]).ok_or(Error::Elf)?;
        let base = segments.first().and_then(|s| s.address.checked_sub(s.offset)).ok_or(Error::Elf)?;
        let end = segments.iter().map(|s| s.end).max().ok_or(Error::Elf)?;
        let span = base.checked_add((self.blocks.len() * BLOCK) as u64).ok_or(Error::Elf)?;
        // Moves go down, in ascending order, so that none reads what another has written.
        let downwards = segments.iter().all(|s| s.address <= base + s.offset);
        let ascending =
            segments.windows(2).all(|w| w[0].offset <= w[1].offset && w[0].address <= w[1].address);
        if span.max(end) > limit || base.min(entry) < super::layout::KERNEL || !downwards || !ascending {
            return Err(Error::Elf);
        }
        guest_bytes::with(memory, base, len, |to| to.copy_from_slice(&head[..len]))?;
        drop(head);

        let rest: Vec<(usize, (u64, usize))> = self.blocks.iter().copied().enumerate().skip(1).collect();
        segments::in_parallel(&rest, |(n, packed)| -> Result<(), Error> {
            let at = base + (n * BLOCK) as u64;
            let len = guest_bytes::with(memory, at, BLOCK, |to| block(file, *packed, to))??;
            let last = n + 1 == self.blocks.len();
            if last || len == BLOCK { Ok(()) } else { Err(Error::Block) }
        })?;
        for segment in &segments {
            let from = base + segment.offset;
            if segment.address < from {
                let down = (from - segment.address) as usize;
                let bytes = segment.bytes as usize;
                guest_bytes::with(memory, segment.address, down + bytes, |all| {
                    all.copy_within(down..down + bytes, 0);
                })?;
            }
        }
        Ok(Unpacked { entry, end })
    }
}

/// Unpacks one block; how long it is.
fn block(file: &File, (at, bytes): (u64, usize), to: &mut [u8]) -> Result<usize, Error> {
    let mut packed = vec![0; bytes];
    file.read_exact_at(&mut packed, at)?;
    lz4_flex::block::decompress_into(&packed, to).map_err(|_| Error::Block)
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

    /// A vmlinux of two segments, the second across the border of the first two blocks.
    fn vmlinux() -> Vec<u8> {
        let mut elf = vec![0u8; BLOCK + 0x3000];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[18] = 62;
        elf[24..32].copy_from_slice(&0x20_1000u64.to_le_bytes());
        elf[32] = 64;
        elf[54] = 56;
        elf[56] = 2;
        for (n, (offset, address, bytes)) in
            [(0x1000u64, 0x20_1000u64, 0x1000u64), (BLOCK as u64 - 0x1000, 0x30_0000, 0x3000)]
                .into_iter()
                .enumerate()
        {
            let at = 64 + n * 56;
            elf[at] = 1;
            elf[at + 8..at + 16].copy_from_slice(&offset.to_le_bytes());
            elf[at + 24..at + 32].copy_from_slice(&address.to_le_bytes());
            elf[at + 32..at + 40].copy_from_slice(&bytes.to_le_bytes());
            elf[at + 40..at + 48].copy_from_slice(&bytes.to_le_bytes());
        }
        elf[0x1000..0x2000].fill(1);
        elf[BLOCK - 0x1000..BLOCK].fill(2);
        elf[BLOCK..BLOCK + 0x2000].fill(3);
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

    fn memory() -> GuestMemoryMmap {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 20 << 20)]).unwrap()
    }

    #[test]
    fn segments_land_whole_across_blocks() {
        let (file, payload) = packed(&vmlinux());
        let memory = memory();
        let found = find(&file, payload).unwrap().unwrap();
        let unpacked = found.unpack(&file, &memory, 20 << 20).unwrap();
        assert_eq!(unpacked, Unpacked { entry: 0x20_1000, end: 0x30_3000 });
        let at = |address: u64| memory.read_obj::<u8>(GuestAddress(address)).unwrap();
        assert_eq!([at(0x20_1000), at(0x20_1fff), at(0x20_2000)], [1, 1, 0]);
        assert_eq!([at(0x30_0000), at(0x30_0fff), at(0x30_1000), at(0x30_2fff)], [2, 2, 3, 3]);
    }

    #[test]
    fn what_is_cut_damaged_or_too_large_is_left_to_the_guest() {
        let (file, payload) = packed(&vmlinux());
        assert_eq!(find(&file, (payload.0, payload.1 - 100)).unwrap(), None);
        assert_eq!(find(&file, (payload.0 + 1, payload.1 - 1)).unwrap(), None);
        let found = find(&file, payload).unwrap().unwrap();
        assert!(matches!(found.unpack(&file, &memory(), 17 << 20), Err(Error::Elf)));
        file.write_all_at(&[0xff; 64], payload.0 + 16).unwrap();
        assert!(found.unpack(&file, &memory(), 20 << 20).is_err());
    }
}
