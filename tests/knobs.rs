//! What is asked of a knob shows in the report, or is refused in words. Guests of a few
//! instructions.

mod harness;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::host::{Host, any_guest, skip};
use harness::machine::{Ended, vmm};
use harness::tiny::{Tiny, exit, halt, print, spin, touch};
use harness::user::{User, give};
use serde_json::Value;

/// The row of `flag`, after a run with `args` that ended well.
#[track_caller]
fn row(flag: &str, args: &[&str]) -> (Value, Ended) {
    let guest = Tiny::new(&[touch(2 << 20, 16), exit(0)].concat());
    let ended = vmm(guest.args()).args(["--memory", "32M"]).args(args.iter().copied()).run();
    ended.expect("exit", 0);
    let rows = ended.report["knobs"].as_array().expect("a list");
    let row = rows.iter().find(|row| row["flag"] == flag).cloned();
    (row.unwrap_or_else(|| panic!("no row for {flag} in {rows:#?}")), ended)
}

#[test]
fn every_knob_that_was_set_has_a_row_with_what_came_of_it() {
    let Some(_) = any_guest() else { return };
    for (flag, args) in [
        ("pin", ["--pin", "0@0"].as_slice()),
        ("vcpus", &["--vcpus", "2"]),
        ("thp", &["--thp=off"]),
        ("prefault", &["--prefault"]),
        ("halt-poll", &["--halt-poll", "50000"]),
        ("idle", &["--idle", "guest-poll"]),
        ("pv", &["--pv", "steal=off"]),
    ] {
        let (row, _) = row(flag, args);
        assert!(row["asked"].is_string() && row["got"].is_string(), "{flag}: {row}");
        let evidence = row["evidence"].as_object().expect("an object");
        assert!(!evidence.is_empty(), "{flag}: {row}");
    }
}

/// What came of `flag`, in words.
#[track_caller]
fn got(flag: &str, args: &[&str]) -> String {
    row(flag, args).0["got"].as_str().expect("words").to_owned()
}

#[test]
fn what_came_of_it_is_what_the_guest_and_the_kernel_have() {
    let Some(_) = any_guest() else { return };
    let pinned = got("pin", &["--pin", "0@0"]);
    assert!(pinned.starts_with("vCPU 0 on 0, moved 0 times"), "{pinned}");
    let hidden = got("pv", &["--pv", "ipi,eoi,tlb,yield,steal,unhalt=off"]);
    assert_eq!(hidden, "the guest sees none of them");
    let shown = got("pv", &["--pv", "steal=on"]);
    assert!(shown.contains("steal"), "every KVM has it: {shown}");
}

/// A guest that halts for good; its halts as KVM counts them.
#[track_caller]
fn halts(args: &[&str]) -> (Value, Ended) {
    let guest = Tiny::new(&halt());
    let ended =
        vmm(guest.args()).args(["--memory", "32M", "--timeout", "1"]).args(args.iter().copied()).run();
    ended.expect("timeout", 83);
    (ended.report["halts"].clone(), ended)
}

#[test]
fn a_halt_is_an_exit_unless_kvm_lets_it_go() {
    let Some(host) = any_guest() else { return };
    let (plain, _) = halts(&["--halt-poll", "0"]);
    assert_eq!(plain["exits"], 1, "{plain}");
    assert_eq!(plain["poll_attempted"].as_u64().unwrap_or(0), 0, "{plain}");
    // Other hosts take the wish and don't follow it.
    if host == Host::Hardware {
        let (native, ended) = halts(&["--idle", "native"]);
        let rows = ended.report["knobs"].as_array().expect("a list");
        let row = rows.iter().find(|row| row["flag"] == "idle").expect("a row for idle");
        let let_go = row["got"].as_str().is_some_and(|got| got.starts_with("HLT"));
        assert_eq!(native["exits"], if let_go { 0 } else { 1 }, "{native} {row}");
    }
}

#[test]
fn what_was_not_set_has_no_row() {
    let Some(_) = any_guest() else { return };
    let (_, ended) = row("memory", &[]);
    let rows = ended.report["knobs"].as_array().expect("a list");
    assert_eq!(rows.len(), 1, "{rows:#?}");
}

#[test]
fn vcpus_are_counted_one_by_one() {
    let Some(_) = any_guest() else { return };
    let (_, ended) = row("vcpus", &["--vcpus", "3"]);
    assert_eq!(ended.report["time"]["vcpu_cpu_us"].as_array().map(Vec::len), Some(3));
    assert_eq!(ended.report["vcpus"].as_array().map(Vec::len), Some(3));
}

#[test]
fn the_report_adds_up() {
    let Some(_) = any_guest() else { return };
    let (_, ended) = row("memory", &[]);
    let exits = &ended.report["exits"];
    let sum = |rows: &Value| -> u64 {
        rows.as_array().expect("a list").iter().filter_map(|row| row["count"].as_u64()).sum()
    };
    let total = exits["total"].as_u64().expect("KVM counts exits on every host");
    let unexplained = exits["unexplained"].as_i64().expect("a difference");
    assert_eq!(total as i64, sum(&exits["explained"]) as i64 + unexplained, "{exits:#}");
    assert!(sum(&exits["userspace"]) <= total, "{exits:#}");
    let phases = ended.report["phases"].as_array().expect("a list");
    let parts: u64 = phases.iter().filter_map(|phase| phase["exits"]["total"].as_u64()).sum();
    assert_eq!(parts, total, "phases are parts of the whole: {phases:#?}");
}

/// The control group that a machine has made.
fn group(pid: u32) -> Option<PathBuf> {
    let name = format!("vmm-{pid}");
    let mut folders = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(folder) = folders.pop() {
        if folder.ends_with(&name) {
            return Some(folder);
        }
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        folders.extend(entries.map(|entry| entry.path()).filter(|path| path.is_dir() && !path.is_symlink()));
    }
    None
}

#[test]
fn a_machine_has_as_much_of_a_cpu_as_it_may() {
    let Some(_) = any_guest() else { return };
    let guest = Tiny::new(&[print("here\n"), spin()].concat());
    let machine = vmm(guest.args()).args(["--memory", "32M", "--cpu-limit", "20"]);
    let running = machine.clone().args(["--timeout", "1"]).spawn();
    let pid = running.pid();
    let ended = running.end();
    if ended.report.is_null() {
        let told = ended.stderr.trim_end();
        assert!([73, 77].contains(&ended.status) && told.starts_with("vmm: limit the CPU: "), "{told}");
        return skip(told);
    }
    ended.expect("timeout", 83);
    let time = &ended.report["time"];
    let number = |name: &str| time[name].as_u64().unwrap_or_else(|| panic!("{time}"));
    assert!(number("cpu_throttled") > 0 && number("cpu_throttled_us") > 0, "{time}");
    assert!(number("cpu_periods") >= number("cpu_throttled"), "{time}");
    let row = &ended.report["knobs"][0];
    assert_eq!((&row["flag"], &row["asked"]), (&"cpu-limit".into(), &"20".into()), "{row}");
    assert_eq!(row["evidence"]["time.cpu_throttled"], time["cpu_throttled"], "{row}");
    assert_eq!(group(pid), None, "it is gone with its machine");
    // That of one that was killed is the next one's to remove.
    let mut killed = machine.spawn();
    killed.until("here");
    let pid = killed.pid();
    assert!(group(pid).is_some());
    killed.signal("KILL");
    killed.end();
    machine.args(["--timeout", "0.2"]).run().expect("timeout", 83);
    assert_eq!(group(pid), None);
}

/// Control groups that root has made: a service's, and above it one that stays root's.
struct Groups {
    slice: PathBuf,
    service: PathBuf,
}

impl Groups {
    /// `None`, after saying so, where there is no cpu controller to pass on.
    fn new() -> Option<Groups> {
        let root = PathBuf::from("/sys/fs/cgroup");
        let _ = fs::write(root.join("cgroup.subtree_control"), "+cpu");
        let passed_on = fs::read_to_string(root.join("cgroup.subtree_control")).unwrap_or_default();
        if !passed_on.split_whitespace().any(|controller| controller == "cpu") {
            skip("no cpu controller in a unified hierarchy at /sys/fs/cgroup");
            return None;
        }
        let slice = root.join(format!("vmm-test-{}.slice", std::process::id()));
        let groups = Groups { service: slice.join("vmm.service"), slice };
        fs::create_dir_all(&groups.service).expect("make groups");
        fs::write(groups.slice.join("cgroup.subtree_control"), "+cpu").expect("pass the controller on");
        Some(groups)
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        let _ = (fs::remove_dir(&self.service), fs::remove_dir(&self.slice));
    }
}

#[test]
fn a_user_is_limited_in_the_group_that_was_delegated_to_him_and_nowhere_else() {
    let Some(_) = any_guest() else { return };
    let Some(user) = User::new() else { return };
    let Some(groups) = Groups::new() else { return };
    let service = groups.service.display();
    let guest = Tiny::new(&[print("here\n"), spin()].concat());
    let machine = vmm(guest.args()).args(["--memory", "32M", "--cpu-limit", "20", "--timeout", "1"]);
    let machine = machine.through(user.starts(&format!("echo $$ >{service}/cgroup.procs")));
    // Nothing is his: what he lacks is named, and what to do.
    let refused = machine.run();
    let lacking = format!("limit the CPU: open {service}/cgroup.procs: Permission denied");
    refused.expect_refusal(77, &lacking).expect_refusal(77, "systemd-run --user --scope -p Delegate=yes");
    // What systemd gives away by Delegate=yes (cgroup-v2.rst, "Model of Delegation"); another process of his
    // stays in there.
    for file in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
        give(&groups.service.join(file));
    }
    let mut neighbour = Command::new("sleep").arg("600").spawn().expect("run sleep");
    fs::write(groups.service.join("cgroup.procs"), neighbour.id().to_string()).expect("move it");
    let mut running = machine.spawn();
    running.until("here");
    let inside = group(running.pid());
    let ended = running.end();
    ended.expect("timeout", 83);
    assert_eq!(inside.as_deref().and_then(Path::parent), Some(groups.service.as_path()));
    assert!(ended.report["time"]["cpu_throttled"].as_u64().is_some_and(|times| times > 0));
    let left = fs::read_dir(&groups.service).expect("the group").flatten();
    assert_eq!(left.filter(|entry| entry.path().is_dir()).count(), 0);
    let _ = (neighbour.kill(), neighbour.wait());
}
