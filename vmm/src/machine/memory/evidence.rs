//! Which pages came for the guest, and what the monitor itself holds.

use std::fs::File;
use std::io::{self, BufReader};
use std::ops::Range;

use vm_memory::{GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

use super::smaps::{self, Vma};
use crate::config::{Backing, Memory};

/// What smaps says after the guest has run. Sizes in bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct MemoryEvidence {
    pub asked: Memory,
    /// Guest memory that is resident.
    pub got_bytes: u64,
    /// Of it, what lies in pages of the size that was asked for.
    pub as_asked_bytes: u64,
    /// The monitor's own: resident, outside guest memory.
    pub vmm_resident_bytes: u64,
    /// Of it, what belongs to this process alone: anonymous pages and changed pages of files.
    pub vmm_private_bytes: u64,
}

impl MemoryEvidence {
    /// The share of resident guest memory that has the page size asked for; `None` if none is resident.
    pub fn coverage(&self) -> Option<f64> {
        (self.got_bytes > 0).then(|| self.as_asked_bytes as f64 / self.got_bytes as f64)
    }
}

/// Reads smaps of this process.
pub fn gather(asked: &Memory, memory: &GuestMemoryMmap) -> io::Result<MemoryEvidence> {
    let regions: Vec<Range<u64>> = memory
        .iter()
        .map(|region| {
            let start = region.as_ptr() as u64;
            start..start + region.len()
        })
        .collect();
    let smaps = BufReader::with_capacity(4096, File::open("/proc/self/smaps")?);
    Ok(weigh(*asked, &regions, &smaps::read(smaps)?))
}

fn weigh(asked: Memory, regions: &[Range<u64>], vmas: &[Vma]) -> MemoryEvidence {
    let inside = |vma: &&Vma| regions.iter().any(|r| r.start <= vma.range.start && vma.range.end <= r.end);
    let (guest, own): (Vec<&Vma>, Vec<&Vma>) = vmas.iter().partition(inside);
    let as_asked = |vma: &Vma| match asked.backing {
        Backing::Small => vma.rss.saturating_sub(vma.anon_huge + vma.shmem_huge),
        Backing::Thp => vma.anon_huge + vma.shmem_huge,
        Backing::Huge2M | Backing::Huge1G if vma.page == asked.backing.page_size() => vma.hugetlb,
        Backing::Huge2M | Backing::Huge1G => 0,
    };
    MemoryEvidence {
        asked,
        got_bytes: guest.iter().map(|vma| vma.rss + vma.hugetlb).sum(),
        as_asked_bytes: guest.iter().map(|vma| as_asked(vma)).sum(),
        vmm_resident_bytes: own.iter().map(|vma| vma.rss).sum(),
        vmm_private_bytes: own.iter().map(|vma| vma.anonymous).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_of_what_is_resident() {
        let guest = Vma {
            range: 0x1000..0x5000,
            rss: 400,
            anonymous: 400,
            anon_huge: 300,
            page: 4096,
            ..Vma::default()
        };
        let own = Vma { range: 0x8000..0x9000, rss: 50, anonymous: 20, ..Vma::default() };
        let coverage = |backing| {
            let asked = Memory { size: 0x4000, backing, prefault: false, shared: false };
            let evidence = weigh(asked, std::slice::from_ref(&guest.range), &[guest.clone(), own.clone()]);
            assert_eq!((evidence.got_bytes, evidence.vmm_private_bytes), (400, 20));
            assert_eq!(evidence.vmm_resident_bytes, 50);
            evidence.coverage()
        };
        assert_eq!(coverage(Backing::Thp), Some(0.75));
        assert_eq!(coverage(Backing::Small), Some(0.25));
        assert_eq!(coverage(Backing::Huge2M), Some(0.0));
    }
}
