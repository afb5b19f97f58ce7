//! The host's memory: what guest memory can have of it, and why it can't have more.

use std::{fs, io};

use super::{Error, cgroup, pool};
use crate::config::{Backing, Memory};
use crate::sys::{limits, ram};

/// Refuses memory that this host could never hold, before anything is mapped.
pub fn can_hold(asked: &Memory) -> Result<(), Error> {
    let has = ram::ram_and_swap();
    if asked.size > has { Err(Error::Host { asked: asked.size, has }) } else { Ok(()) }
}

/// Refuses memory that the kernel has granted and would yet send SIGBUS for: a control group's limit
/// on huge pages counts when they are touched.
pub fn can_touch(asked: &Memory) -> Result<(), Error> {
    match asked.backing {
        Backing::Small | Backing::Thp => Ok(()),
        Backing::Huge2M => limited(asked.size, cgroup::hugetlb("2MB")),
        Backing::Huge1G => limited(asked.size, cgroup::hugetlb("1GB")),
    }
}

/// Whether every page of `asked` can be had now, without the kernel killing somebody for it.
pub fn can_populate(asked: &Memory) -> Result<(), Error> {
    if let Backing::Huge2M | Backing::Huge1G = asked.backing {
        // The pool has promised them.
        return Ok(());
    }
    match available() {
        Some(available) if asked.size > available => Err(Error::Available { asked: asked.size, available }),
        _ => limited(asked.size, cgroup::memory()),
    }
}

/// Bytes that this host can still give away.
pub fn available() -> Option<u64> {
    meminfo(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable")
}

fn limited(asked: u64, limit: Option<cgroup::Limit>) -> Result<(), Error> {
    match limit {
        Some(limit) if asked > limit.left => Err(Error::Limit {
            asked,
            what: "this process's control group".into(),
            left: limit.left,
            mend: format!("raise {}", limit.file.display()),
        }),
        _ => Ok(()),
    }
}

/// Why mmap refused, once nothing of it is mapped any more.
pub fn explain(asked: &Memory, error: io::Error) -> Error {
    if let Backing::Huge2M | Backing::Huge1G = asked.backing
        && let Some(lack) = pool::lacks(asked.size, asked.backing.page_size())
    {
        return lack;
    }
    let limit = |what: &str, left, mend: &str| Error::Limit {
        asked: asked.size,
        what: what.into(),
        left,
        mend: mend.into(),
    };
    if let Some(left) = address_space_left().filter(|left| asked.size > *left) {
        return limit("the limit of this process's address space", left, "raise it by ulimit -v");
    }
    if let Some(left) = commit_left().filter(|left| asked.size > *left) {
        return limit("vm.overcommit_memory=2", left, "echo 0 > /proc/sys/vm/overcommit_memory");
    }
    Error::Map { asked: asked.size, error }
}

/// Bytes, where the process has a limit.
fn address_space_left() -> Option<u64> {
    let limit = limits::address_space()?;
    let used = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = used.split(' ').next()?.parse().ok()?;
    Some(limit.saturating_sub(pages * 4096))
}

/// Bytes, where the host promises no more memory than it has.
fn commit_left() -> Option<u64> {
    let strict = fs::read_to_string("/proc/sys/vm/overcommit_memory").ok()?.trim() == "2";
    let text = fs::read_to_string("/proc/meminfo").ok().filter(|_| strict)?;
    Some(meminfo(&text, "CommitLimit")?.saturating_sub(meminfo(&text, "Committed_AS")?))
}

/// Bytes, from /proc/meminfo.
fn meminfo(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_in_kibibytes() {
        let text = "MemTotal:       24684540 kB\nMemAvailable:   100 kB\n";
        assert_eq!(meminfo(text, "MemAvailable"), Some(100 << 10));
        assert_eq!(meminfo(text, "Mem"), None);
    }
}
