//! What can be counted here: KVM's own counters, and its tracepoints.

use std::collections::BTreeMap;

use super::devices::capable;
use super::model::{Finding, Verdict};
use super::root::Root;
use crate::kvm::canary::Canary;
use crate::kvm::class::Class;
use crate::report::kernel;

const AREA: &str = "counting";

/// `CAP_SYS_ADMIN` and `CAP_PERFMON` (linux/capability.h).
const SYS_ADMIN: u32 = 21;
const PERFMON: u32 = 38;

/// The report's counters, and whether each moves here.
pub fn counters(canary: &Canary) -> BTreeMap<&'static str, bool> {
    kernel::countable(canary).collect()
}

pub fn findings(root: &Root, class: Class, canary: &Canary) -> Vec<Finding> {
    vec![statistics(canary), tracepoints(root, class), permission(root)]
}

fn statistics(canary: &Canary) -> Finding {
    let counters = counters(canary);
    let named = |wanted: bool| {
        let names = counters.iter().filter(|(_, moves)| **moves == wanted).map(|(name, _)| *name);
        names.collect::<Vec<_>>().join(", ")
    };
    let found = |text: String| Finding::good(AREA, "KVM's counters", text);
    match (named(true).as_str(), named(false).as_str()) {
        ("", _) => found("none moves: reports say null".into())
            .mend(Verdict::Lacks, "they need Linux 5.14 or later and a KVM that runs"),
        (moving, "") => found(format!("all move: {moving}")),
        (moving, still) => found(format!("{moving} move; not seen to: {still}"))
            .mend(Verdict::Lacks, "reports say null for what does not move; no remedy but another host"),
    }
}

/// Where tracefs may be mounted (Documentation/trace/ftrace.rst).
const TRACEFS: [&str; 2] = ["sys/kernel/tracing", "sys/kernel/debug/tracing"];

fn tracepoints(root: &Root, class: Class) -> Finding {
    let found = |text: &str| Finding::good(AREA, "tracepoints", text);
    let event =
        |name: &str| TRACEFS.iter().any(|top| root.read(format!("{top}/events/kvm/{name}/id")).is_some());
    match (event("kvm_exit"), class) {
        (true, Class::Pvm) => found("kvm:kvm_exit is there and never fires on this kind of host").mend(
            Verdict::Lacks,
            "--trace-exits needs a host with vmx or svm; IPIs and emulation are counted here",
        ),
        (true, _) => found("kvm:kvm_exit can be read"),
        (false, _) => found("kvm:kvm_exit cannot be read").mend(
            Verdict::Lacks,
            "sudo mount -t tracefs tracefs /sys/kernel/tracing, and read it as root, for --trace-exits",
        ),
    }
}

fn permission(root: &Root) -> Finding {
    let paranoid = root.read("proc/sys/kernel/perf_event_paranoid");
    let level = paranoid.as_deref().unwrap_or("absent");
    let found = |who: &str| Finding::good(AREA, "perf", format!("perf_event_paranoid {level} · {who}"));
    let capable = capable(root, PERFMON) || capable(root, SYS_ADMIN);
    match (paranoid.as_deref().map(str::parse::<i32>), capable) {
        (None, _) => found("this kernel has no perf events")
            .mend(Verdict::Lacks, "a kernel with CONFIG_PERF_EVENTS, for --trace-exits"),
        (_, true) => found("this process has CAP_PERFMON"),
        // perf_allow_tracepoint: what a tracepoint says is for all only below 0.
        (Some(Ok(..=-1)), false) => found("for everybody"),
        (_, false) => found("this process lacks CAP_PERFMON").mend(
            Verdict::Lacks,
            "sudo setcap cap_perfmon+ep vmm, or sudo sysctl kernel.perf_event_paranoid=-1, for --trace-exits",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::root::tests::Tree;
    use super::*;

    #[test]
    fn what_moves_and_what_does_not() {
        let canary = Canary::saw(&[], &["halt_exits", "insn_emulation"]);
        let counters = counters(&canary);
        assert_eq!((counters["halt"], counters["emulated"], counters["io"]), (true, true, false));
        // Its neighbour moves, so its zero is true.
        assert!(counters["emulation_failed"]);
        let finding = statistics(&canary);
        assert!(finding.found.contains("halt move; not seen to: "), "{finding:?}");
        assert_eq!(statistics(&Canary::default()).found, "none moves: reports say null");
    }

    #[test]
    fn who_may_trace() {
        let verdict = |name, paranoid: &str, caps: &str| {
            let files = [("proc/sys/kernel/perf_event_paranoid", paranoid), ("proc/self/status", caps)];
            permission(&Tree::new(name, &files).0).verdict
        };
        assert_eq!(verdict("trace1", "2\n", "CapEff:\t0\n"), Verdict::Lacks);
        assert_eq!(verdict("trace2", "-1\n", "CapEff:\t0\n"), Verdict::Good);
        assert_eq!(verdict("trace3", "2\n", "CapEff:\t0000004000000000\n"), Verdict::Good);
        let files = [("sys/kernel/debug/tracing/events/kvm/kvm_exit/id", "1234\n")];
        let tree = Tree::new("trace4", &files);
        assert_eq!(tracepoints(&tree.0, Class::Vmx).verdict, Verdict::Good);
        assert_eq!(tracepoints(&tree.0, Class::Pvm).verdict, Verdict::Lacks);
        assert_eq!(tracepoints(&Tree::new("trace5", &[]).0, Class::Vmx).verdict, Verdict::Lacks);
    }
}
