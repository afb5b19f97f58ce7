//! A hundred machines at once on one host: each runs, ends as it is told, and leaves nothing behind.

mod harness;

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use harness::host::{any_guest, in_lab, note, skip};
use harness::machine::{Ended, Running, vmm};

const MACHINES: u64 = 100;

/// Waits until the machine's vCPU has a thread: from then on a signal ends it with its report.
fn runs(machine: &Running) {
    let tasks = format!("/proc/{}/task", machine.pid());
    let named = |task: std::io::Result<fs::DirEntry>| fs::read_to_string(task?.path().join("comm"));
    while !fs::read_dir(&tasks)
        .expect("a process that runs")
        .any(|task| named(task).is_ok_and(|name| name.starts_with("vcpu")))
    {
        sleep(Duration::from_millis(5));
    }
}

/// Kilobytes of a machine, its guest's memory included.
fn kilobytes(machine: &Running) -> u64 {
    let path = format!("/proc/{}/smaps_rollup", machine.pid());
    let text = fs::read_to_string(path).expect("a process that runs");
    let pss = text.lines().find_map(|line| line.strip_prefix("Pss:")).expect("a proportional set size");
    pss.trim().trim_end_matches(" kB").parse().expect("kilobytes")
}

#[test]
fn a_hundred_at_once() {
    let Some(_) = any_guest() else { return };
    if in_lab() {
        return skip("a hundred machines are not for two emulated CPUs; run on the machine's own /dev/kvm");
    }
    // Ten wake-ups a second, for ten minutes if nobody ended them.
    let machine = vmm(["--memory", "64M", "--workload", "jitter,period=100000,items=6000"])
        .limit(Duration::from_secs(120));
    let began = Instant::now();
    let machines: Vec<Running> = (0..MACHINES).map(|_| machine.spawn()).collect();
    machines.iter().for_each(runs);
    let started = began.elapsed();
    let processes: Vec<u32> = machines.iter().map(Running::pid).collect();
    let resident: u64 = machines.iter().map(kilobytes).sum();
    let began = Instant::now();
    machines.iter().for_each(|machine| machine.signal("TERM"));
    let ended: Vec<Ended> = machines.into_iter().map(Running::end).collect();
    let ending = began.elapsed();
    for process in processes {
        assert!(!Path::new(&format!("/proc/{process}")).exists());
    }
    let well = |ended: &&Ended| {
        let exits = ended.report["exits"]["total"].as_u64();
        ended.report["guest"]["end"] == "signal" && ended.status == 128 + 15 && exits > Some(0)
    };
    let failures: Vec<&Ended> = ended.iter().filter(|ended| !well(ended)).collect();
    let ready = |ended: &Ended| ended.report["time"]["exec_to_ready_us"].as_u64();
    let mut ready: Vec<u64> = ended.iter().filter_map(ready).collect();
    ready.sort_unstable();
    let rate = |time: Duration| MACHINES as f64 / time.as_secs_f64();
    note(
        "figure",
        &format!(
            "{MACHINES} machines at once: {:.0} started in a second and {:.0} ended, {} failures; from exec to \
             ready {} us (median) and {} us (last); {} KiB each, guest memory included",
            rate(started),
            rate(ending),
            failures.len(),
            ready.get(ready.len() / 2).copied().unwrap_or(0),
            ready.last().copied().unwrap_or(0),
            resident / MACHINES
        ),
    );
    assert!(failures.is_empty(), "{failures:#?}");
}
