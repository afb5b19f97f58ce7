//! The built-in init of a Linux guest: no image is needed, modules are loaded, workloads run, and
//! their status is the machine's.

mod harness;

use std::io::Write;

use harness::host::linux_guest;
use harness::kernels;
use harness::machine::{Ended, Machine, vmm};
use serde_json::Value;

/// Debian's cloud kernel without an image; `None`, after saying so, where it can't run.
fn linux(workloads: &[&str]) -> Option<Machine> {
    linux_guest()?;
    let kernel = kernels::cloud()?;
    let machine = vmm(["--kernel".into(), kernel.bzimage.into_os_string()]);
    let machine = machine.args(["--modules".into(), kernel.modules.into_os_string()]);
    let machine = machine.args(["--memory", "256M", "--cmdline", "quiet"]);
    Some(workloads.iter().fold(machine, |machine, text| machine.args(["--workload", text])))
}

/// The phase of this name.
fn phase<'a>(ended: &'a Ended, name: &str) -> Option<&'a Value> {
    ended.report["phases"].as_array()?.iter().find(|phase| phase["name"] == name)
}

#[test]
fn a_status_is_passed_on_and_ends_what_follows() {
    let Some(machine) = linux(&["ready", "exit=7", "exit=9"]) else { return };
    let ended = machine.args(["-v"]).run();
    ended.expect("exit", 7);
    let added = "added to the command line: console=ttyS0 8250.nr_uarts=1 pci=noearly panic=-1 reboot=a";
    assert!(ended.stderr.contains(added), "{}", ended.stderr);
}

#[test]
fn each_end_that_linux_knows() {
    for (workload, end, status) in [
        ("poweroff", "shutdown", 0),
        ("reboot", "reset", 0),
        // By the module pvpanic-mmio, which init has loaded.
        ("panic", "panic", 80),
        ("triple-fault", "triple-fault", 81),
    ] {
        let Some(machine) = linux(&[workload]) else { return };
        machine.run().expect(end, status);
    }
}

#[test]
fn workloads_hand_over_their_records() {
    let texts = ["null,calls=1000", "hackbench,groups=1,loops=2", "null,gate=call"];
    let Some(machine) = linux(&texts) else { return };
    let ended = machine.run();
    // What can't be done here is said, and is a failure.
    ended.expect("exit", 1);
    let records = ended.report["records"].as_array().expect("a list");
    let rows: Vec<_> = records
        .iter()
        .map(|row| {
            (row["workload"].as_str(), row["part"].as_str(), row["outcome"].as_str(), row["ops"].as_u64())
        })
        .collect();
    let row = |workload, part, outcome, ops| (Some(workload), Some(part), Some(outcome), Some(ops));
    assert_eq!(
        rows,
        [
            row(texts[0], "read-only", "ok", 2000),
            row(texts[0], "read-write", "ok", 2000),
            row(texts[1], "-", "ok", 800),
            row(texts[2], "-", "unavailable:linux-has-only-system-calls", 0),
        ]
    );
    for name in ["init", "ready"].iter().chain(&texts) {
        assert!(phase(&ended, name).is_some(), "no phase {name}");
    }
}

#[test]
fn an_idle_guest_never_returns_to_userspace() {
    let text = "idle,seconds=3";
    let Some(machine) = linux(&[text]) else { return };
    let ended = machine.run();
    ended.expect("exit", 0);
    let phase = phase(&ended, text).expect("the phase of the workload");
    // All but the mark that ends it.
    let exits = phase["exits"]["userspace"].as_array().expect("a list");
    let others: Vec<_> = exits.iter().filter(|row| row["target"] != "exit-port MARK").collect();
    assert!(others.is_empty(), "{others:?}");
}

#[test]
fn what_was_written_last_is_read_before_the_end() {
    let Some(machine) = linux(&["shell"]) else { return };
    let mut running = machine.spawn();
    running.until("/ # ");
    let stdin = running.stdin.as_mut().expect("not at its end");
    // As much as a serial port takes in some milliseconds.
    stdin.write_all(b"seq 600; exit 3\n").expect("type");
    let ended = running.end();
    ended.expect("exit", 3);
    let last = ended.stdout.trim_end().rsplit_once('\n').map(|(_, line)| line);
    assert_eq!(last, Some("600"), "{}", ended.stdout);
}

#[test]
fn a_shell_reads_what_is_piped_in() {
    let Some(machine) = linux(&["shell"]) else { return };
    let mut machine = machine.spawn();
    machine.until("/ # ");
    let mut stdin = machine.stdin.take().expect("piped");
    stdin.write_all(b"cut -d' ' -f1 /proc/modules; tty; exit 11\n").expect("write to the console");
    let ended = machine.end();
    ended.expect("exit", 11);
    for words in ["pvpanic_mmio", "/dev/ttyS0"] {
        assert!(ended.stdout.contains(words), "no {words:?} in {}", ended.stdout);
    }
}

#[test]
fn what_cannot_be_loaded_is_said_before_the_boot() {
    let Some(kernel) = kernels::cloud() else { return };
    let machine = vmm(["--kernel".into(), kernel.bzimage.into_os_string()]);
    machine.args(["--modules", "/proc/self"]).run().expect_refusal(65, "modules.order");
}
