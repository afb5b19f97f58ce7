//! CPUs: what makes times differ from run to run.

use std::path::PathBuf;

use super::model::{Finding, Verdict};
use super::root::Root;
use crate::run::cpu_group;
use crate::sys::affinity;

const AREA: &str = "cpus";
const CPUS: &str = "sys/devices/system/cpu";

pub fn findings(root: &Root) -> Vec<Finding> {
    let mut findings =
        vec![allowed(root), load(root), governor(root), smt(root), isolation(root), clock(root), limit(root)];
    findings.extend(nodes(root));
    findings
}

fn allowed(root: &Root) -> Finding {
    let online = root.read(format!("{CPUS}/online")).unwrap_or_else(|| "unknown".into());
    let mine = affinity::allowed();
    Finding::good(AREA, "CPUs", format!("online {online} · {} of them for this process", mine.len()))
}

fn load(root: &Root) -> Finding {
    let text = root.read("proc/loadavg").unwrap_or_default();
    let load = text.split(' ').next().unwrap_or_default();
    let cpus = affinity::allowed().len().max(1) as f64;
    let found = Finding::good(AREA, "load", format!("{load} in the last minute"));
    match load.parse::<f64>() {
        Ok(load) if load > cpus / 2.0 => found
            .mend(Verdict::Tune, "wait until the host is idle: what runs beside a machine is in its times"),
        _ => found,
    }
}

fn governor(root: &Root) -> Finding {
    let governors = root.list(CPUS).into_iter().filter_map(|cpu| {
        cpu.strip_prefix("cpu")?.parse::<u32>().ok()?;
        root.read(format!("{CPUS}/{cpu}/cpufreq/scaling_governor"))
    });
    let mut governors: Vec<String> = governors.collect();
    governors.sort();
    governors.dedup();
    let found = Finding::good(AREA, "governor", governors.join(", "));
    match governors.as_slice() {
        [] => Finding::good(AREA, "governor", "none: this kernel does not set the clock of its CPUs"),
        [one] if one == "performance" => found,
        _ => found.mend(
            Verdict::Tune,
            format!("echo performance | sudo tee /{CPUS}/cpu*/cpufreq/scaling_governor"),
        ),
    }
}

fn smt(root: &Root) -> Finding {
    match root.number(format!("{CPUS}/smt/active")) {
        Some(0) => Finding::good(AREA, "SMT", "off: one thread to a core"),
        Some(_) => {
            let siblings = root.read(format!("{CPUS}/cpu0/topology/thread_siblings_list"));
            let siblings = siblings.map(|list| format!(": CPUs {list} share a core")).unwrap_or_default();
            Finding::good(AREA, "SMT", format!("on{siblings}")).mend(
                Verdict::Tune,
                format!("--pin to one thread of each core, or echo off | sudo tee /{CPUS}/smt/control"),
            )
        }
        None => Finding::good(AREA, "SMT", "unknown to this kernel"),
    }
}

fn isolation(root: &Root) -> Finding {
    let list =
        |file: &str| root.read(format!("{CPUS}/{file}")).filter(|list| !list.is_empty() && list != "(null)");
    match (list("isolated"), list("nohz_full")) {
        (None, None) => Finding::good(AREA, "isolation", "no CPU is kept free of other work").mend(
            Verdict::Tune,
            "for the smallest jitter, isolcpus=LIST nohz_full=LIST rcu_nocbs=LIST for the host, then --pin",
        ),
        (isolated, tickless) => {
            let words = |list: Option<String>| list.unwrap_or_else(|| "none".into());
            let found = format!("isolated {} · tickless {}", words(isolated), words(tickless));
            Finding::good(AREA, "isolation", found)
        }
    }
}

fn clock(root: &Root) -> Finding {
    let source = root.read("sys/devices/system/clocksource/clocksource0/current_clocksource");
    match source.as_deref() {
        Some("tsc") | None => Finding::good(AREA, "clock", source.unwrap_or_else(|| "unknown".into())),
        Some(other) => Finding::good(AREA, "clock", other).mend(
            Verdict::Tune,
            "a clock that is not the TSC costs a guest its kvmclock page; see dmesg for why it is not used",
        ),
    }
}

/// Whether `--cpu-limit` has a group to be in: beside this process's own.
fn limit(root: &Root) -> Finding {
    let (mounts, groups) = (root.read("proc/self/mounts"), root.read("proc/self/cgroup"));
    let place =
        mounts.as_deref().and_then(cpu_group::mounted).zip(groups.as_deref().and_then(cpu_group::own));
    let lacks = |found: String| {
        let mend = "--cpu-limit needs the cpu controller in the unified hierarchy: boot with cgroup_no_v1=cpu, or \
                    systemd.unified_cgroup_hierarchy=1";
        Finding::good(AREA, "limit", found).mend(Verdict::Lacks, mend)
    };
    let Some((hierarchy, own)) = place else { return lacks("no cgroup v2 is mounted".into()) };
    let parent: PathBuf = hierarchy.join(own.parent().unwrap_or(own)).components().collect();
    let file = parent.join("cgroup.controllers");
    let listed = root.read(file.strip_prefix("/").unwrap_or(&file)).unwrap_or_default();
    match listed.split(' ').any(|controller| controller == "cpu") {
        true => {
            Finding::good(AREA, "limit", format!("cgroup v2: {} has the cpu controller", parent.display()))
        }
        false => lacks(format!("{} has no cpu controller", parent.display())),
    }
}

/// More than one NUMA node: where which CPUs are.
fn nodes(root: &Root) -> Option<Finding> {
    const NODES: &str = "sys/devices/system/node";
    let names = root
        .list(NODES)
        .into_iter()
        .filter(|name| name.strip_prefix("node").is_some_and(|number| number.parse::<u32>().is_ok()));
    let cpus = |name: String| {
        let list = root.read(format!("{NODES}/{name}/cpulist")).unwrap_or_default();
        format!("{name} has CPUs {list}")
    };
    let lists: Vec<String> = names.map(cpus).collect();
    let found = Finding::good(AREA, "NUMA", lists.join(" · "));
    (lists.len() > 1).then(|| {
        found.mend(Verdict::Tune, "numactl --cpunodebind=N --membind=N vmm …, and --pin to its CPUs")
    })
}

#[cfg(test)]
mod tests {
    use super::super::root::tests::Tree;
    use super::*;

    #[test]
    fn a_host_to_tune() {
        let files = [
            ("sys/devices/system/cpu/online", "0-1"),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave"),
            ("sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0-1"),
            ("sys/devices/system/cpu/cpuidle/current_driver", "x"),
            ("sys/devices/system/cpu/smt/active", "1"),
            ("sys/devices/system/node/node0/cpulist", "0"),
            ("sys/devices/system/node/node1/cpulist", "1"),
            ("proc/loadavg", "99999.0 1 1 1/2 3"),
            ("proc/self/mounts", "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0"),
            ("proc/self/cgroup", "0::/a/b"),
            ("sys/fs/cgroup/a/cgroup.controllers", "cpuset memory"),
        ];
        let tree = Tree::new("cpus", &files);
        let findings = findings(&tree.0);
        let of = |name| findings.iter().find(|finding| finding.name == name).unwrap();
        for name in ["load", "governor", "SMT", "isolation", "NUMA"] {
            assert_eq!(of(name).verdict, Verdict::Tune, "{:?}", of(name));
        }
        assert_eq!(of("limit").verdict, Verdict::Lacks);
        assert_eq!(of("limit").found, "/sys/fs/cgroup/a has no cpu controller");
        assert_eq!(of("SMT").found, "on: CPUs 0-1 share a core");
        assert_eq!(of("NUMA").found, "node0 has CPUs 0 · node1 has CPUs 1");
    }

    #[test]
    fn a_host_in_order() {
        let files = [
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance"),
            ("sys/devices/system/cpu/smt/active", "0"),
            ("sys/devices/system/cpu/isolated", "2-3"),
            ("proc/loadavg", "0.00 1 1 1/2 3"),
            ("proc/self/mounts", "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0"),
            ("proc/self/cgroup", "0::/"),
            ("sys/fs/cgroup/cgroup.controllers", "cpuset cpu memory"),
            ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc"),
        ];
        let tree = Tree::new("order", &files);
        assert!(findings(&tree.0).iter().all(|finding| finding.verdict == Verdict::Good));
    }
}
