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
use std::sync::atomic::{AtomicUsize, Ordering};

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::image::{u16_at, u32_at, u64_at};
use crate::sys::affinity;

const MAGIC: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];
/// LEGACY_BLOCKSIZE of lz4.
const BLOCK: usize = 8 << 20;
/// What LZ4 makes of 8 MiB that can't be compressed.
const COMPRESSED_MAX: u32 = (BLOCK + BLOCK / 255 + 16) as u32;
/// 512 MiB of kernel: more blocks than this are no kernel.
const BLOCKS_MAX: usize = 64;
/// More threads than this wait for memory.
const THREADS_MAX: usize = 4;

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

/// A segment that is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    offset: u64,
    address: u64,
    bytes: u64,
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
    pub fn unpack(&self, file: &File, memory: &GuestMemoryMmap, limit: u64) -> Result<Unpacked, Error> {
        let mut first = Unpacker::default();
        let head = first.block(file, self.blocks[0])?;
        let (entry, segments) = headers(head).ok_or(Error::Elf)?;
        let end = segments.iter().map(|s| s.address + s.bytes).max().ok_or(Error::Elf)?;
        if end > limit || entry < super::layout::KERNEL {
            return Err(Error::Elf);
        }
        place(memory, &segments, 0, head)?;

        let next = AtomicUsize::new(1);
        let work = |mut unpacker: Unpacker| -> Result<(), Error> {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                let Some(block) = self.blocks.get(n) else { return Ok(()) };
                place(memory, &segments, (n * BLOCK) as u64, unpacker.block(file, *block)?)?;
            }
        };
        let helpers = affinity::allowed().len().min(THREADS_MAX).min(self.blocks.len()).saturating_sub(1);
        std::thread::scope(|scope| {
            let helpers: Vec<_> = (0..helpers).map(|_| scope.spawn(|| work(Unpacker::default()))).collect();
            let mut done = work(first);
            for helper in helpers {
                done = done.and(helper.join().unwrap_or(Err(Error::Block)));
            }
            done
        })?;
        Ok(Unpacked { entry, end })
    }
}

/// One thread's buffers.
#[derive(Default)]
struct Unpacker {
    packed: Vec<u8>,
    plain: Vec<u8>,
}

impl Unpacker {
    fn block(&mut self, file: &File, (at, bytes): (u64, usize)) -> Result<&[u8], Error> {
        self.packed.resize(bytes, 0);
        self.plain.resize(BLOCK, 0);
        file.read_exact_at(&mut self.packed, at)?;
        let len =
            lz4_flex::block::decompress_into(&self.packed, &mut self.plain).map_err(|_| Error::Block)?;
        Ok(&self.plain[..len])
    }
}

/// Copies what `bytes`, at `offset` of the vmlinux, holds of each segment.
fn place(memory: &GuestMemoryMmap, segments: &[Segment], offset: u64, bytes: &[u8]) -> Result<(), Error> {
    let end = offset + bytes.len() as u64;
    for segment in segments {
        let (from, to) = (segment.offset.max(offset), (segment.offset + segment.bytes).min(end));
        if from < to {
            let part = &bytes[(from - offset) as usize..(to - offset) as usize];
            memory.write_slice(part, GuestAddress(segment.address + (from - segment.offset)))?;
        }
    }
    Ok(())
}

/// Entry point and segments of a 64-bit ELF executable, all checked against overflow.
fn headers(head: &[u8]) -> Option<(u64, Vec<Segment>)> {
    const PT_LOAD: u32 = 1;
    if !head.starts_with(b"\x7fELF\x02\x01") || u16_at(head, 18)? != 62 || u16_at(head, 54)? != 56 {
        return None;
    }
    let table = usize::try_from(u64_at(head, 32)?).ok()?;
    let mut segments = Vec::new();
    for n in 0..usize::from(u16_at(head, 56)?) {
        let header = head.get(table.checked_add(n * 56)?..)?.get(..56)?;
        if u32_at(header, 0)? == PT_LOAD {
            let segment = Segment {
                offset: u64_at(header, 8)?,
                address: u64_at(header, 24)?,
                bytes: u64_at(header, 32)?,
            };
            segment.offset.checked_add(segment.bytes)?;
            segment.address.checked_add(segment.bytes)?;
            segments.push(segment);
        }
    }
    Some((u64_at(head, 24)?, segments))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// A vmlinux of two segments, the second across the border of the first two blocks.
    fn vmlinux() -> Vec<u8> {
        let mut elf = vec![0u8; BLOCK + 0x3000];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[18] = 62;
        elf[24..32].copy_from_slice(&0x10_0000u64.to_le_bytes());
        elf[32] = 64;
        elf[54] = 56;
        elf[56] = 2;
        for (n, (offset, address, bytes)) in
            [(0x1000u64, 0x10_0000u64, 0x1000u64), (BLOCK as u64 - 0x1000, 0x20_0000, 0x3000)]
                .into_iter()
                .enumerate()
        {
            let at = 64 + n * 56;
            elf[at] = 1;
            elf[at + 8..at + 16].copy_from_slice(&offset.to_le_bytes());
            elf[at + 24..at + 32].copy_from_slice(&address.to_le_bytes());
            elf[at + 32..at + 40].copy_from_slice(&bytes.to_le_bytes());
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

    #[test]
    fn segments_land_whole_across_blocks() {
        let (file, payload) = packed(&vmlinux());
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 4 << 20)]).unwrap();
        let found = find(&file, payload).unwrap().unwrap();
        let unpacked = found.unpack(&file, &memory, 4 << 20).unwrap();
        assert_eq!(unpacked, Unpacked { entry: 0x10_0000, end: 0x20_3000 });
        let at = |address: u64| memory.read_obj::<u8>(GuestAddress(address)).unwrap();
        assert_eq!([at(0x10_0000), at(0x10_0fff), at(0x10_1000)], [1, 1, 0]);
        assert_eq!([at(0x20_0000), at(0x20_0fff), at(0x20_1000), at(0x20_2fff)], [2, 2, 3, 3]);
    }

    #[test]
    fn what_is_cut_damaged_or_too_large_is_left_to_the_guest() {
        let (file, payload) = packed(&vmlinux());
        assert_eq!(find(&file, (payload.0, payload.1 - 100)).unwrap(), None);
        assert_eq!(find(&file, (payload.0 + 1, payload.1 - 1)).unwrap(), None);
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 4 << 20)]).unwrap();
        let found = find(&file, payload).unwrap().unwrap();
        assert!(matches!(found.unpack(&file, &memory, 0x20_0000), Err(Error::Elf)));
        file.write_all_at(&[0xff; 64], payload.0 + 16).unwrap();
        assert!(found.unpack(&file, &memory, 4 << 20).is_err());
    }
}
