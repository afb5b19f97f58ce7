//! The parts of an ELF file that are loaded, and loading them: by as many threads as there are CPUs,
//! because most of the time goes into pages that are touched for the first time.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};

use vm_memory::GuestMemoryMmap;

use super::image::{u32_at, u64_at};
use crate::sys::{affinity, guest_bytes};

/// One PT_LOAD program header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// In the file.
    pub offset: u64,
    /// In the guest.
    pub address: u64,
    /// In the file; what the guest has beyond is zero already.
    pub bytes: u64,
    /// One past its last byte in the guest.
    pub end: u64,
}

/// What a thread takes at a time: a huge page.
const PIECE: u64 = 2 << 20;
/// More threads than this wait for memory.
const THREADS_MAX: usize = 4;
const PT_LOAD: u32 = 1;

impl Segment {
    /// Reads a 64-bit program header; `None` where it isn't one that is loaded, or where it overflows.
    pub fn read(header: &[u8]) -> Option<Segment> {
        let (offset, address) = (u64_at(header, 8)?, u64_at(header, 24)?);
        let (bytes, in_memory) = (u64_at(header, 32)?, u64_at(header, 40)?);
        offset.checked_add(bytes)?;
        let end = address.checked_add(in_memory)?;
        (u32_at(header, 0)? == PT_LOAD && bytes <= in_memory).then_some(Segment {
            offset,
            address,
            bytes,
            end,
        })
    }
}

/// Copies `segments` of `file` to where they belong.
pub fn load(file: &File, segments: &[Segment], memory: &GuestMemoryMmap) -> io::Result<()> {
    let mut pieces = Vec::new();
    for segment in segments {
        for at in (0..segment.bytes).step_by(PIECE as usize) {
            let bytes = PIECE.min(segment.bytes - at);
            pieces.push((segment.offset + at, segment.address + at, bytes as usize));
        }
    }
    in_parallel(
        &pieces,
        || (),
        |(), (offset, address, bytes)| {
            let read = |bytes: &mut [u8]| file.read_exact_at(bytes, *offset);
            guest_bytes::with(memory, *address, *bytes, read).map_err(io::Error::other)?
        },
    )
}

/// Does `work` for each item, on several threads, each with a `tool` of its own; the first error counts.
pub fn in_parallel<T: Sync, S, E: Send>(
    items: &[T],
    tool: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, &T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let next = AtomicUsize::new(0);
    let run = || {
        let mut tool = tool();
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            work(&mut tool, item)?;
        }
        Ok(())
    };
    let helpers = affinity::allowed().len().min(THREADS_MAX).min(items.len()).saturating_sub(1);
    std::thread::scope(|scope| {
        let helpers: Vec<_> = (0..helpers).map(|_| scope.spawn(run)).collect();
        let mut done = run();
        for helper in helpers {
            // A panic in a thread is a bug in `work`, and ends the process (panic = abort).
            done = done.and(helper.join().unwrap_or(Ok(())));
        }
        done
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use vm_memory::{Bytes, GuestAddress};

    #[test]
    fn every_piece_arrives() {
        let mut file = vmm_sys_util::tempfile::TempFile::new().unwrap().into_file();
        let content: Vec<u8> = (0..5 << 20).map(|i: u32| (i >> 10) as u8).collect();
        file.write_all(&content).unwrap();
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 8 << 20)]).unwrap();
        let segment = Segment { offset: 0x1000, address: 0x20_0000, bytes: (5 << 20) - 0x1000, end: 0 };
        load(&file, &[segment], &memory).unwrap();
        let mut loaded = vec![0; segment.bytes as usize];
        memory.read_slice(&mut loaded, GuestAddress(0x20_0000)).unwrap();
        assert!(loaded == content[0x1000..]);
        assert!(load(&file, &[Segment { offset: 5 << 20, ..segment }], &memory).is_err());
        assert!(load(&file, &[Segment { address: 7 << 20, ..segment }], &memory).is_err());
    }
}
