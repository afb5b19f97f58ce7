//! The root: a tar image, in memory or on a disk, whose files are all read.

use abi::record::{Outcome, Record};
use abi::workload::Spec;
use workloads::Results;
use workloads::platform::{Disk as _, Platform, Unavailable};

use crate::arch::memory as physical;
use crate::blk::Disk;
use crate::kernel::MACHINE;
use crate::platform::Kernel;
use crate::tar::{Corrupt, Files, Image};

/// Bytes of a disk's request; less is no disk of a root.
const REQUEST: usize = 4096;

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
            read(spec, &mut OnDisk { disk, there: None })
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
    let mut rest = Files(image, 0);
    while let Some(file) = rest.take_next()? {
        rest.read(file, |piece| {
            piece.iter().for_each(|byte| sum = (sum ^ u64::from(*byte)).wrapping_mul(FNV))
        })?;
        files += 1;
        bytes += file.size;
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

/// An image on a disk, the last request of which stays.
struct OnDisk {
    disk: Disk,
    /// Where what is in the request's buffer begins.
    there: Option<u64>,
}

impl OnDisk {
    /// Reads the request's length at `start`.
    fn fetch(&mut self, start: u64) -> bool {
        if self.there != Some(start) {
            self.there = None;
            let read = self.disk.submit(0, start, false);
            self.there = (read && self.disk.complete() == Some((0, true))).then_some(start);
        }
        self.there.is_some()
    }
}

impl Image for OnDisk {
    fn bytes(&self) -> u64 {
        self.disk.capacity()
    }

    fn read(&mut self, at: u64, bytes: &mut [u8]) -> bool {
        let mut done = 0;
        while done < bytes.len() {
            let now = at + done as u64;
            // The last request ends where the disk does.
            let start = (now / REQUEST as u64 * REQUEST as u64).min(self.bytes() - REQUEST as u64);
            let offset = (now - start) as usize;
            if offset >= REQUEST {
                return false;
            }
            let len = (REQUEST - offset).min(bytes.len() - done);
            if !self.fetch(start) {
                return false;
            }
            self.disk.copy(0, offset, &mut bytes[done..done + len]);
            done += len;
        }
        true
    }
}
