//! What the control groups of this process leave of a resource: the tightest of all levels, in the
//! unified hierarchy (Documentation/admin-guide/cgroup-v2.rst) and in the older ones beside it.

use std::fs;
use std::path::{Path, PathBuf};

/// What may still be used, and the file that says so.
#[derive(Debug, PartialEq, Eq)]
pub struct Limit {
    /// Bytes.
    pub left: u64,
    pub file: PathBuf,
}

/// The limit on memory. Page cache counts as free: the kernel gives it up before it kills.
pub fn memory() -> Option<Limit> {
    let new = Files { max: "memory.max", current: "memory.current", page_cache: true };
    let old = Files { max: "memory.limit_in_bytes", current: "memory.usage_in_bytes", page_cache: true };
    tightest("memory", new, old)
}

/// The limit on huge pages of this size, as `2MB`.
pub fn hugetlb(size: &str) -> Option<Limit> {
    let name = |what: &str| format!("hugetlb.{size}.{what}");
    let (max, current) = (name("max"), name("current"));
    let (old_max, old_current) = (name("limit_in_bytes"), name("usage_in_bytes"));
    let new = Files { max: &max, current: &current, page_cache: false };
    let old = Files { max: &old_max, current: &old_current, page_cache: false };
    tightest("hugetlb", new, old)
}

/// Where a group keeps a resource.
#[derive(Clone, Copy)]
struct Files<'a> {
    max: &'a str,
    current: &'a str,
    /// Whether what is used may be page cache.
    page_cache: bool,
}

fn tightest(controller: &str, new: Files<'_>, old: Files<'_>) -> Option<Limit> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let root = Path::new("/sys/fs/cgroup");
    let limits = groups.lines().filter_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let path = Path::new(path.trim_start_matches('/'));
        if controllers.is_empty() {
            new.tightest(root, path)
        } else if controllers.split(',').any(|name| name == controller) {
            old.tightest(&root.join(controllers), path)
        } else {
            None
        }
    });
    limits.min_by_key(|limit| limit.left)
}

impl Files<'_> {
    /// Of the group of this process and every one above it; a group without a limit says `max`.
    fn tightest(&self, root: &Path, path: &Path) -> Option<Limit> {
        let limits = path.ancestors().filter_map(|path| {
            let group = root.join(path);
            let file = group.join(self.max);
            let max = number(&file)?;
            let mut used = number(&group.join(self.current))?;
            if self.page_cache {
                used = used.saturating_sub(page_cache(&group));
            }
            Some(Limit { left: max.saturating_sub(used), file })
        });
        limits.min_by_key(|limit| limit.left)
    }
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Bytes of files that the group and those below it hold in memory. The older hierarchy says `total_`
/// where it counts the groups below.
fn page_cache(group: &Path) -> u64 {
    let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let value = |name: &str| {
        let value = stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.and_then(|value| value.parse::<u64>().ok())
    };
    let sum = |prefix: &str| {
        let of = |name: &str| value(&format!("{prefix}{name}"));
        Some(of("inactive_file")? + of("active_file")?)
    };
    sum("total_").or_else(|| sum("")).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_level_counts_and_page_cache_is_free() {
        let root = std::env::temp_dir().join(format!("vmm-cgroup-{}", std::process::id()));
        let inner = root.join("outer/inner");
        fs::create_dir_all(&inner).unwrap();
        let write = |file: &str, text: &str| fs::write(root.join(file), text).unwrap();
        write("outer/memory.max", "1000\n");
        write("outer/memory.current", "900\n");
        write("outer/memory.stat", "anon 500\ninactive_file 300\nactive_file 50\n");
        write("outer/inner/memory.max", "max\n");
        write("outer/inner/memory.current", "400\n");
        let files = Files { max: "memory.max", current: "memory.current", page_cache: true };
        let limit = files.tightest(&root, Path::new("outer/inner"));
        let none = files.tightest(&root, Path::new("elsewhere"));
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(limit, Some(Limit { left: 450, file: root.join("outer/memory.max") }));
        assert_eq!(none, None);
    }
}
