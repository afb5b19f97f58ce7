//! `--trace-exits`: guests with known numbers of everything, counted twice: by the tracer, and by
//! tracefs's own histograms. And what is said where exits can't be traced.

mod harness;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use harness::host::{Host, any_guest, skip};
use harness::machine::{Ended, Machine, vmm};
use harness::tiny::{Tiny, cpuids, exit, outs, stores};
use serde_json::Value;

const TRACEFS: &str = "/sys/kernel/tracing";
const MOUNT: &str = "mount -t tracefs tracefs /sys/kernel/tracing";
const PORTS: u32 = 100;
const STORES: u32 = 64;
const CPUIDS: u32 = 50;

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no number: {value}"))
}

/// Starts a program, through `how`, in a mount namespace of its own, after `script`; `None`, after saying so, where that
/// takes more than this user may.
fn in_own_mounts(script: &str, how: &str) -> Option<[String; 5]> {
    let may = std::process::Command::new("unshare").args(["-m", "true"]).output();
    if !may.is_ok_and(|done| done.status.success()) {
        skip("no mount namespace: not root, or no unshare");
        return None;
    }
    let script = format!("{script} 2>/dev/null; exec {how} \"$0\" \"$@\"");
    Some(["unshare", "-m", "sh", "-c", &script].map(str::to_owned))
}

/// `vmm --trace-exits`, with tracefs mounted for it; `None`, after saying so, where it can't be.
fn traced(machine: Machine) -> Option<Machine> {
    let machine = machine.args(["--trace-exits"]);
    if Path::new(TRACEFS).join("events").exists() {
        return Some(machine);
    }
    Some(machine.through(in_own_mounts(MOUNT, "")?))
}

/// Counts of the rows whose reason and target are these.
fn rows(rows: &Value, reason: &str, target: Option<&str>) -> u64 {
    let rows = rows.as_array().expect("a list").iter();
    let fits = |row: &&Value| row["reason"] == reason && target.is_none_or(|target| row["target"] == target);
    rows.filter(fits).map(|row| number(&row["count"])).sum()
}

/// Exits of all rows, which must be all that KVM has counted.
#[track_caller]
fn adds_up(ended: &Ended) -> &Value {
    let (exits, trace) = (&ended.report["exits"], &ended.report["trace"]);
    let sum: u64 = exits["hardware"].as_array().expect("rows").iter().map(|row| number(&row["count"])).sum();
    assert_eq!((sum, number(&trace["exits"])), (number(&exits["total"]), sum), "{trace:#}");
    assert_eq!((trace["lost"].as_i64(), trace["by"].as_str()), (Some(0), Some("bpf")));
    &exits["hardware"]
}

fn known_guest() -> Tiny {
    let code = [outs(0x61, PORTS), stores(0xd000_0000, 0, STORES), cpuids(CPUIDS), exit(0)];
    Tiny::new(&code.concat())
}

/// tracefs's own counts of kvm_exit by thread and reason, while this lives.
struct Histogram(std::path::PathBuf);

impl Histogram {
    fn new() -> Histogram {
        let instance = Path::new(TRACEFS).join("instances").join(format!("vmm-test-{}", std::process::id()));
        fs::create_dir(&instance).expect("make an instance of tracefs");
        let trigger = "hist:keys=common_pid,exit_reason:size=4096";
        fs::write(instance.join("events/kvm/kvm_exit/trigger"), trigger).expect("set a histogram");
        Histogram(instance)
    }

    /// Counts by reason, but for those of thread `canary`.
    fn by_reason(&self, canary: u32) -> BTreeMap<u64, u64> {
        let text = fs::read_to_string(self.0.join("events/kvm/kvm_exit/hist")).expect("read the histogram");
        assert!(text.contains("Dropped: 0"), "{text}");
        let mut counts = BTreeMap::new();
        // { common_pid:       1234, exit_reason:        114 } hitcount:         50
        for line in text.lines().filter(|line| line.starts_with("{ common_pid:")) {
            let numbers = line.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok());
            let [thread, reason, count] = numbers.collect::<Vec<u64>>()[..] else { panic!("{line}") };
            if thread != u64::from(canary) {
                *counts.entry(reason).or_insert(0) += count;
            }
        }
        counts
    }
}

impl Drop for Histogram {
    fn drop(&mut self) {
        let _ = fs::write(
            self.0.join("events/kvm/kvm_exit/trigger"),
            "!hist:keys=common_pid,exit_reason:size=4096",
        );
        let _ = fs::remove_dir(&self.0);
    }
}

/// The manuals' numbers of reasons as the report words them, those of this host.
fn word(reason: u64, svm: bool) -> &'static [&'static str] {
    match (svm, reason) {
        (true, 0x60) => &["interrupt"],
        (true, 0x64) | (false, 7) => &["interrupt window"],
        (true, 0x72) | (false, 10) => &["CPUID"],
        (true, 0x78) | (false, 12) => &["HLT"],
        (true, 0x7b) | (false, 30) => &["I/O", "I/O read", "I/O write"],
        (true, 0x7c) => &["MSR", "MSR read", "MSR write"],
        (true, 0x400) => &["nested page fault: memory", "MMIO read", "MMIO write"],
        (false, 1) => &["external interrupt"],
        (false, 31) => &["RDMSR"],
        (false, 32) => &["WRMSR"],
        _ => &[],
    }
}

#[test]
fn a_known_guest_is_counted_exactly_and_as_tracefs_counts_it() {
    match any_guest() {
        Some(Host::Hardware) => {}
        Some(_) => return skip("this host's KVM takes no exits from the processor"),
        None => return,
    }
    if !Path::new(TRACEFS).join("instances").exists() {
        return skip("tracefs is not mounted, or not for us");
    }
    let svm = Path::new("/sys/module/kvm_amd").exists();
    let guest = known_guest();
    let histogram = Histogram::new();
    let Some(machine) = traced(vmm(guest.args()).args(["--memory", "32M"])) else { return };
    let running = machine.spawn();
    let canary = running.pid();
    let ended = running.end();
    ended.expect("exit", 0);
    let hardware = adds_up(&ended);
    assert_eq!(rows(hardware, "I/O write", Some("port 0x61")), u64::from(PORTS));
    assert_eq!(rows(hardware, "MMIO write", Some("mmio 0xd0000000")), u64::from(STORES));
    assert_eq!(rows(hardware, "CPUID", None), u64::from(CPUIDS));
    let counts = histogram.by_reason(canary);
    let total: u64 = counts.values().sum();
    assert_eq!(total, number(&ended.report["exits"]["total"]), "{counts:?}");
    for (reason, count) in &counts {
        let words = word(*reason, svm);
        let ours: u64 = words.iter().map(|word| rows(hardware, word, None)).sum();
        assert!(words.is_empty() || ours == *count, "{reason:#x}: {count} and {ours} of {words:?}");
    }
    let hot = ended.report["hot"].as_array().expect("a list");
    assert!((1..=5).contains(&hot.len()) && hot[0]["by"] == "hardware", "{hot:#?}");
    assert!(ended.report["trace"]["sources"].as_array().is_some_and(|all| all.len() == 8));
}

#[test]
fn halts_and_ipis_of_the_built_in_kernel_are_counted_exactly() {
    match any_guest() {
        Some(Host::Hardware) => {}
        Some(_) => return skip("this host's KVM takes no exits from the processor"),
        None => return,
    }
    let words = ["--workload", "probe,what=ipi-spin,items=100", "--vcpus", "2", "--memory", "128M"];
    let Some(machine) = traced(vmm(words)) else { return };
    let ended = machine.run();
    ended.expect("exit", 0);
    let ipi = &ended.report["exits"]["ipi"];
    // One for each item, INIT and SIPI for the second CPU; where SIPI came twice, one more.
    assert!((102..=103).contains(&number(&ipi["count"])), "{ipi}");
    assert_eq!(ipi["source"], "kvm_apic_ipi");
    let hardware = adds_up(&ended);
    let icr = rows(hardware, "MSR write", Some("ICR: IPI")) + rows(hardware, "WRMSR", Some("ICR: IPI"));
    assert_eq!(icr, number(&ipi["count"]));
    let Some(machine) = traced(vmm(["--workload", "probe,what=hlt,items=50", "--memory", "128M"])) else {
        return;
    };
    let ended = machine.run();
    let halts = rows(adds_up(&ended), "HLT", None);
    assert_eq!(Some(halts), ended.report["halts"]["exits"].as_u64());
    assert!(halts >= 50, "{halts}");
}

#[test]
fn more_registers_than_rows_are_lost_nowhere() {
    match any_guest() {
        Some(Host::Hardware) => {}
        Some(_) => return skip("this host's KVM takes no exits from the processor"),
        None => return,
    }
    let guest = Tiny::new(&[stores(0xd000_0000, 8, 1000), exit(0)].concat());
    let Some(machine) = traced(vmm(guest.args()).args(["--memory", "32M"])) else { return };
    let ended = machine.run();
    ended.expect("exit", 0);
    let hardware = adds_up(&ended);
    let (named, other) = (rows(hardware, "MMIO write", None), rows(hardware, "other", None));
    assert!(named < 1000 && named + other >= 1000, "{named} {other}");
}

#[test]
fn a_host_without_exits_shows_what_it_has() {
    if any_guest() != Some(Host::Pvm) {
        return skip("not a kvm_pvm host");
    }
    let guest = known_guest();
    let Some(machine) = traced(vmm(guest.args()).args(["--memory", "32M"])) else { return };
    let ended = machine.run();
    ended.expect("exit", 0);
    assert_eq!(ended.report["exits"]["hardware"], Value::Null);
    let trace = &ended.report["trace"];
    assert!(trace["why"].as_str().is_some_and(|why| why.contains("kvm_exit never fires")), "{trace:#}");
    assert_eq!(rows(&trace["events"], "I/O write", Some("port 0x61")), u64::from(PORTS));
    assert_eq!(rows(&trace["events"], "MMIO write", Some("mmio 0xd0000000")), u64::from(STORES));
    let counts = |event: &str| {
        let sources = trace["sources"].as_array().expect("a list");
        sources.iter().find(|source| source["event"] == event).expect("the source")["counts"].clone()
    };
    assert_eq!((counts("kvm_exit"), counts("kvm_entry")), (Value::Bool(false), Value::Bool(false)));
    for event in ["kvm_pio", "kvm_mmio", "kvm_msr", "kvm_apic_ipi", "kvm_vcpu_wakeup"] {
        assert_eq!(counts(event), Value::Bool(true), "{event}");
    }
    assert_eq!(ended.report["exits"]["ipi"]["count"], 0);
}

/// One line that holds `words`, the machine's own end, and null.
#[track_caller]
fn untraced(ended: &Ended, words: &str) {
    ended.expect("exit", 0);
    let said: Vec<&str> = ended.stderr.lines().filter(|line| line.contains("exits are not traced")).collect();
    assert!(said.len() == 1 && said[0].contains(words), "{}", ended.stderr);
    assert_eq!(ended.report["exits"]["hardware"], Value::Null);
    assert!(ended.report["trace"]["why"].as_str().is_some_and(|why| why.contains(words)));
}

#[test]
fn without_tracefs_one_line_says_so() {
    let Some(_) = any_guest() else { return };
    let gone = "umount -l /sys/kernel/tracing /sys/kernel/debug/tracing /sys/kernel/debug";
    let Some(through) = in_own_mounts(gone, "") else { return };
    let guest = known_guest();
    let ended = vmm(guest.args()).args(["--trace-exits"]).through(through).run();
    untraced(&ended, "tracefs is not mounted: mount -t tracefs");
}

#[test]
fn without_privilege_one_line_names_what_is_missing() {
    let Some(_) = any_guest() else { return };
    for (dropped, words) in [
        ("-bpf,-perfmon,-sys_admin", "CAP_BPF and CAP_PERFMON are missing"),
        ("-bpf,-sys_admin", "CAP_BPF is missing"),
        ("-perfmon,-sys_admin", "CAP_PERFMON is missing"),
    ] {
        let Some(through) = in_own_mounts(MOUNT, &format!("setpriv --bounding-set={dropped}")) else {
            return;
        };
        let guest = known_guest();
        let ended = vmm(guest.args()).args(["--trace-exits"]).through(through).run();
        untraced(&ended, words);
    }
}
