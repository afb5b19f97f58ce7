//! /proc/PID/smaps as data (Documentation/filesystems/proc.rst, 1.1).

use std::io::{self, BufRead};
use std::ops::Range;

/// One mapping of a process, all sizes in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vma {
    pub range: Range<u64>,
    /// Resident, without huge pages from a pool.
    pub rss: u64,
    /// Resident and no page of a file.
    pub anonymous: u64,
    /// In transparent huge pages that are mapped as such.
    pub anon_huge: u64,
    /// The same of a file in memory, which has a switch of its own (`shmem_enabled`).
    pub shmem_huge: u64,
    /// Resident pages from a pool.
    pub hugetlb: u64,
    /// The size of one page.
    pub page: u64,
}

/// Reads every mapping. Fields that nobody knows yet are passed over.
pub fn read(mut from: impl BufRead) -> io::Result<Vec<Vma>> {
    let mut vmas: Vec<Vma> = Vec::new();
    let mut line = String::new();
    while from.read_line(&mut line)? > 0 {
        if let Some(range) = range(&line) {
            vmas.push(Vma { range, ..Vma::default() });
        } else if let (Some(vma), Some((name, bytes))) = (vmas.last_mut(), field(&line)) {
            match name {
                "Rss" => vma.rss = bytes,
                "Anonymous" => vma.anonymous = bytes,
                "AnonHugePages" => vma.anon_huge = bytes,
                "ShmemPmdMapped" => vma.shmem_huge = bytes,
                "Private_Hugetlb" | "Shared_Hugetlb" => vma.hugetlb += bytes,
                "KernelPageSize" => vma.page = bytes,
                _ => {}
            }
        }
        line.clear();
    }
    Ok(vmas)
}

/// `7f5f00000000-7f5f10000000 rw-p …`
fn range(line: &str) -> Option<Range<u64>> {
    let (start, end) = line.split(' ').next()?.split_once('-')?;
    Some(u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?)
}

/// `Rss:     12 kB`
fn field(line: &str) -> Option<(&str, u64)> {
    let (name, value) = line.split_once(':')?;
    let number = value.trim().strip_suffix(" kB")?;
    Some((name, number.parse::<u64>().ok()?.checked_mul(1024)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_belong_to_the_mapping_above_them() {
        let text = "7f0000000000-7f0010000000 rw-p 00000000 00:00 0 \n\
                    Size:             262144 kB\nKernelPageSize:        4 kB\nRss:   8192 kB\n\
                    Anonymous:  8192 kB\nAnonHugePages:      4096 kB\nTHPeligible:           1\n\
                    VmFlags: rd wr mr mw me dd hg \n\
                    7f0020000000-7f0020200000 rw-p 00000000 00:0f 1 /anon_hugepage (deleted)\n\
                    KernelPageSize:     2048 kB\nPrivate_Hugetlb:    2048 kB\n";
        let (small, huge) = (4096, 2 << 20);
        let vmas = read(text.as_bytes()).unwrap();
        assert_eq!(vmas[0].range, 0x7f00_0000_0000..0x7f00_1000_0000);
        assert_eq!((vmas[0].rss, vmas[0].anon_huge, vmas[0].page), (4 * huge, 2 * huge, small));
        assert_eq!((vmas[1].rss, vmas[1].hugetlb, vmas[1].page), (0, huge, huge));
        assert_eq!(vmas.len(), 2);
    }
}
