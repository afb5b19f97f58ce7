//! The root: a tar image, in memory or on a disk behind a page cache, whose files are all read.

use core::ops::Range;

use abi::record::{Outcome, Record};
use abi::workload::Spec;
use workloads::Results;
use workloads::cache::Cache;
use workloads::platform::{Disk as _, Platform, Unavailable};
use workloads::sys::words;

use crate::arch::memory as physical;
use crate::blk::Disk;
use crate::kernel::MACHINE;
use crate::platform::Kernel;
use crate::tar::{Corrupt, Files, Image};

/// Bytes of a disk's request, and of a page of its cache; less is no disk of a root.
const REQUEST: usize = 4096;
/// Bytes of a file's header.
const HEADER: usize = 512;

/// Reads every file of the root that `spec` names.
pub fn run(spec: &Spec<'_>, results: Results<'_>) -> Result<(), Unavailable> {
    Kernel.prepare(spec)?;
    let read = match spec.word("from") {
        "memory" => {
            let (start, len) = MACHINE.root().ok_or(Unavailable("no-root-in-memory"))?;
            read(spec, &mut InMemory(physical::image(start, len)))
        }
        _ => {
            let poll = spec.word("blk") == "poll";
            let disk = Disk::open(spec.count("disk"), REQUEST, 1, poll)?;
            if disk.capacity() < REQUEST as u64 {
                return Err(Unavailable("disk-too-small"));
            }
            let (frames, blocks) = (spec.count("size") / REQUEST, disk.capacity().div_ceil(REQUEST as u64));
            let blocks = usize::try_from(blocks).unwrap_or(usize::MAX);
            // More than there can be memory for.
            let table = Cache::words(frames, blocks.min(usize::MAX / 16));
            Kernel.memory(frames * REQUEST + 8 * table, |memory| {
                let (pages, table) = memory.split_at_mut(frames * REQUEST);
                let cache = Cache::new(words(table), frames, spec.word("cache") == "tagged");
                let mut image = OnDisk { disk, pages, cache };
                let read = read(spec, &mut image);
                let (hits, misses) = (image.cache.hits, image.cache.misses);
                read.map(|record| record.with("hits", hits).with("misses", misses))
            })?
        }
    };
    let failed = |Corrupt(why)| Record::without(spec.text(), Outcome::Failed(why));
    let mut record = read.unwrap_or_else(failed);
    Kernel.counters(&mut |name, value| record = record.with(name, value));
    results(&record);
    Ok(())
}

fn read<'s>(spec: &Spec<'s>, image: &mut impl Image) -> Result<Record<'s>, Corrupt> {
    let start = Kernel.now();
    let (mut files, mut bytes, mut sum) = (0, 0, FNV_OFFSET);
    for _ in 0..spec.number("rounds") {
        let mut rest = Files(image, 0);
        while let Some(file) = rest.take_next()? {
            rest.read(file, |piece| {
                piece.iter().for_each(|byte| sum = (sum ^ u64::from(*byte)).wrapping_mul(FNV))
            })?;
            files += 1;
            bytes += file.size;
        }
    }
    let record = Record::new(spec.text(), "-", files, Kernel.now() - start);
    Ok(record.with("bytes", bytes).with("sum", sum))
}

/// FNV-1a over all contents: short, and the same everywhere.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV: u64 = 0x0100_0000_01b3;

/// An image that the monitor has laid into memory.
struct InMemory(&'static [u8]);

impl Image for InMemory {
    fn bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn read(&mut self, at: u64, bytes: &mut [u8]) -> bool {
        let there = self.0.get(at as usize..).and_then(|rest| rest.get(..bytes.len()));
        there.map(|there| bytes.copy_from_slice(there)).is_some()
    }
}

/// An image on a disk, behind a page cache.
struct OnDisk<'m> {
    disk: Disk,
    pages: &'m mut [u8],
    cache: Cache<'m>,
}

impl OnDisk<'_> {
    /// Where in the cache's pages the request's length at block `block` is; the last block ends where the disk
    /// does. Long pieces are of a stream; headers, and what is as short, are not.
    fn fetch(&mut self, block: usize, start: u64, scan: bool) -> Option<Range<usize>> {
        let access = self.cache.access(block, false, scan);
        let place = access.frame * REQUEST..(access.frame + 1) * REQUEST;
        if !access.hit {
            let read = self.disk.submit(0, start, false);
            if !read || self.disk.complete() != Some((0, true)) {
                self.cache.forget(access.frame);
                return None;
            }
            self.disk.copy(0, 0, self.pages.get_mut(place.clone())?);
        }
        Some(place)
    }
}

impl Image for OnDisk<'_> {
    fn bytes(&self) -> u64 {
        self.disk.capacity()
    }

    fn read(&mut self, at: u64, bytes: &mut [u8]) -> bool {
        let scan = bytes.len() > HEADER;
        let mut done = 0;
        while done < bytes.len() {
            let now = at + done as u64;
            let block = now / REQUEST as u64;
            let start = (block * REQUEST as u64).min(self.bytes() - REQUEST as u64);
            let offset = (now - start) as usize;
            if offset >= REQUEST {
                return false;
            }
            let len = (REQUEST - offset).min(bytes.len() - done);
            let Some(place) = self.fetch(block as usize, start, scan) else { return false };
            let page = self.pages.get(place).and_then(|page| page.get(offset..offset + len));
            let Some(page) = page else { return false };
            bytes[done..done + len].copy_from_slice(page);
            done += len;
        }
        true
    }
}
