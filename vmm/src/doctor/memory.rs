//! Memory: which pages a guest can have.

use super::model::{Finding, Pool, Verdict};
use super::root::Root;
use crate::report::text::units;

const AREA: &str = "memory";
const THP: &str = "sys/kernel/mm/transparent_hugepage";

pub fn findings(root: &Root) -> Vec<Finding> {
    let mut findings = vec![available(root), thp(root), shmem(root)];
    findings.extend(sizes(root).into_iter().map(|kib| pool(root, kib)));
    findings
}

fn available(root: &Root) -> Finding {
    let text = root.read("proc/meminfo").unwrap_or_default();
    let kib = |name: &str| -> Option<u64> {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        value.trim().strip_suffix(" kB")?.parse().ok()
    };
    let size = |name| kib(name).map_or("unknown".into(), |kib| units::size(kib << 10));
    let found = format!("{} available of {}", size("MemAvailable"), size("MemTotal"));
    let found = Finding::good(AREA, "memory", found);
    // A tenth is what a host should keep to itself.
    match (kib("MemAvailable"), kib("MemTotal")) {
        (Some(left), Some(all)) if left < all / 10 => found
            .mend(Verdict::Tune, "end what else uses memory: a guest that is swapped out measures the disk"),
        _ => found,
    }
}

/// The word in brackets.
fn chosen(root: &Root, file: &str) -> Option<String> {
    let text = root.read(format!("{THP}/{file}"))?;
    Some(text.split_once('[')?.1.split_once(']')?.0.to_owned())
}

fn thp(root: &Root) -> Finding {
    let found = |text: &str| Finding::good(AREA, "transparent huge pages", text);
    match chosen(root, "enabled").as_deref() {
        None => found("this kernel has none").mend(Verdict::Lacks, "--hugepages takes its pages from a pool"),
        Some("never") => found("never: --thp has no effect")
            .mend(Verdict::Lacks, format!("echo madvise | sudo tee /{THP}/enabled")),
        Some(policy) => found(policy),
    }
}

/// Shared memory has a policy of its own; what is shared with a vhost-user process lies there.
fn shmem(root: &Root) -> Finding {
    let found = |text: &str| Finding::good(AREA, "in shared memory", text);
    match chosen(root, "shmem_enabled").as_deref() {
        None => found("no such policy").mend(Verdict::Lacks, "--hugepages, where memory is shared"),
        Some(policy @ ("never" | "deny")) => {
            found(&format!("{policy}: memory of vhost-user is in 4 KiB pages"))
                .mend(Verdict::Tune, format!("echo advise | sudo tee /{THP}/shmem_enabled, or --hugepages"))
        }
        Some(policy) => found(policy),
    }
}

const POOLS: &str = "sys/kernel/mm/hugepages";

/// Sizes of pages that have a pool, in KiB.
fn sizes(root: &Root) -> Vec<u64> {
    let folders = root.list(POOLS);
    let size = |name: &String| name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok();
    let mut sizes: Vec<u64> = folders.iter().filter_map(size).collect();
    sizes.sort_unstable();
    sizes
}

fn pool(root: &Root, kib: u64) -> Finding {
    let name = if kib < 1 << 20 { "pool of 2 MiB pages" } else { "pool of 1 GiB pages" };
    let of_node = |pool: &Pool| format!("{} of {} free on node {}", pool.free, pool.total, pool.node);
    let pools = pools(root).into_iter().filter(|pool| pool.page_kib == kib);
    let pools: Vec<Pool> = pools.collect();
    let found = Finding::good(AREA, name, pools.iter().map(of_node).collect::<Vec<_>>().join(", "));
    if pools.iter().any(|pool| pool.free > 0) {
        return found;
    }
    let remedy = format!("echo PAGES | sudo tee /{POOLS}/hugepages-{kib}kB/nr_hugepages, for --hugepages");
    found.mend(Verdict::Lacks, remedy)
}

/// The pools of all NUMA nodes.
pub fn pools(root: &Root) -> Vec<Pool> {
    const NODES: &str = "sys/devices/system/node";
    let nodes = root.list(NODES);
    let nodes = nodes.iter().filter_map(|name| name.strip_prefix("node")?.parse::<u32>().ok());
    let nodes: Vec<u32> = nodes.collect();
    let pool = |page_kib: u64, node: u32, folder: String| {
        let total = root.number(format!("{folder}/nr_hugepages"))?;
        Some(Pool { page_kib, node, total, free: root.number(format!("{folder}/free_hugepages"))? })
    };
    let of_size = |kib: u64| {
        let name = format!("hugepages-{kib}kB");
        // A kernel without NUMA shows no nodes; what there is, is node 0's.
        let whole = nodes.is_empty().then(|| pool(kib, 0, format!("{POOLS}/{name}"))).flatten();
        let each = nodes.iter().filter_map({
            let name = name.clone();
            move |node| pool(kib, *node, format!("{NODES}/node{node}/hugepages/{name}"))
        });
        whole.into_iter().chain(each).collect::<Vec<_>>()
    };
    sizes(root).into_iter().flat_map(of_size).collect()
}

#[cfg(test)]
mod tests {
    use super::super::root::tests::Tree;
    use super::*;

    #[test]
    fn policies_and_what_changes_them() {
        let files = [
            ("sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n"),
            ("sys/kernel/mm/transparent_hugepage/shmem_enabled", "always within_size [advise] never\n"),
            ("proc/meminfo", "MemTotal: 1000 kB\nMemAvailable: 99 kB\n"),
        ];
        let tree = Tree::new("policies", &files);
        let found: Vec<(Verdict, String)> =
            findings(&tree.0).into_iter().map(|finding| (finding.verdict, finding.found)).collect();
        assert_eq!(found[0].0, Verdict::Tune);
        assert_eq!(found[1], (Verdict::Lacks, "never: --thp has no effect".into()));
        assert_eq!(found[2], (Verdict::Good, "advise".into()));
    }

    #[test]
    fn pools_by_size_and_node() {
        let node = "sys/devices/system/node/node1/hugepages/hugepages-2048kB";
        let files = [
            ("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "9"),
            (&format!("{node}/nr_hugepages"), "9"),
            (&format!("{node}/free_hugepages"), "4"),
            ("sys/devices/system/node/possible", "0-1"),
        ];
        let tree = Tree::new("pools", &files);
        let pool = Pool { page_kib: 2048, node: 1, total: 9, free: 4 };
        assert_eq!(pools(&tree.0), [pool]);
        let finding = super::pool(&tree.0, 2048);
        assert_eq!((finding.verdict, finding.found.as_str()), (Verdict::Good, "4 of 9 free on node 1"));
    }
}
