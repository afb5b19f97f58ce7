//! The host's pools of huge pages (Documentation/admin-guide/mm/hugetlbpage.rst).

use std::fs;
use std::path::{Path, PathBuf};

use super::Error;
use crate::config::memory::Size;

/// One pool, in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pool {
    /// Set by the administrator.
    total: u64,
    free: u64,
    /// Of the free ones, promised to a mapping.
    reserved: u64,
    /// May be added on demand, beyond the total.
    overcommit: u64,
    /// Added so far.
    surplus: u64,
}

impl Pool {
    /// Pages that a new mapping can have.
    fn available(self) -> u64 {
        self.free.saturating_sub(self.reserved) + self.overcommit.saturating_sub(self.surplus)
    }
}

fn folder(page_size: u64) -> PathBuf {
    format!("/sys/kernel/mm/hugepages/hugepages-{}kB", page_size >> 10).into()
}

fn read(folder: &Path) -> Option<Pool> {
    let number = |name: &str| fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok();
    Some(Pool {
        total: number("nr_hugepages")?,
        free: number("free_hugepages")?,
        reserved: number("resv_hugepages")?,
        overcommit: number("nr_overcommit_hugepages")?,
        surplus: number("surplus_hugepages")?,
    })
}

/// What the pool lacks for `bytes` in pages of `page_size`; `None`: it has enough.
pub fn lacks(bytes: u64, page_size: u64) -> Option<Error> {
    let folder = folder(page_size);
    match read(&folder) {
        None => Some(Error::NoPool(Size(page_size))),
        Some(pool) => missing(pool, bytes, page_size, &folder),
    }
}

fn missing(pool: Pool, bytes: u64, page_size: u64, folder: &Path) -> Option<Error> {
    let needed = bytes.div_ceil(page_size);
    let free = pool.available();
    let missing = needed.checked_sub(free).filter(|missing| *missing > 0)?;
    Some(Error::Pool {
        size: Size(page_size),
        needed,
        free,
        missing,
        total: pool.total + missing,
        file: folder.join("nr_hugepages"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_what_to_add() {
        let pool = Pool { total: 100, free: 60, reserved: 20, overcommit: 3, surplus: 1 };
        let text = |bytes| missing(pool, bytes, 2 << 20, Path::new("/p")).map(|error| error.to_string());
        assert_eq!(text(42 << 21), None);
        assert_eq!(
            text(128 << 21).unwrap(),
            "hugepages=2M: 128 pages needed, 42 free, 86 missing: echo 186 > /p/nr_hugepages"
        );
    }

    #[test]
    fn a_size_without_a_pool() {
        assert!(matches!(lacks(1 << 30, 3 << 20), Some(Error::NoPool(_))));
    }
}
