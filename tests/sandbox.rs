//! What a machine that runs may still do, as the host's kernel sees it, thread by thread.

mod harness;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use harness::host::{any_guest, skip};
use harness::machine::{Running, scratch, vmm};
use harness::tap::{Interface, Reflector};
use harness::tiny::{Tiny, print, spin};
use harness::user::{self, User};

/// A guest that says that it is there, and stays.
fn guest() -> Tiny {
    Tiny::new(&[print("here\n"), spin()].concat())
}

/// What /proc says of each thread of this process: by its name, the wanted lines of its status.
fn threads(pid: u32) -> BTreeMap<String, BTreeMap<String, String>> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("a process that runs");
    let wanted = ["NoNewPrivs", "Seccomp", "CapEff", "CapPrm"];
    let thread = |task: fs::DirEntry| {
        let status = fs::read_to_string(task.path().join("status")).ok()?;
        let lines = status.lines().filter_map(|line| line.split_once(":\t"));
        let all: BTreeMap<&str, &str> = lines.map(|(key, value)| (key, value.trim())).collect();
        let of = |key: &&str| Some(((*key).to_owned(), (*all.get(*key)?).to_owned()));
        Some((all.get("Name")?.to_string(), wanted.iter().filter_map(of).collect()))
    };
    tasks.filter_map(|task| thread(task.ok()?)).collect()
}

fn confined(status: &BTreeMap<String, String>) -> bool {
    let none = |key: &str| status[key].chars().all(|digit| digit == '0');
    status["NoNewPrivs"] == "1" && status["Seccomp"] == "2" && none("CapEff") && none("CapPrm")
}

/// Waits until all of these run, and each thread of ours is confined. Those that the kernel has made for
/// KVM and io_uring run no program.
fn all_confined(running: &Running, names: &[&str]) {
    let ours = |name: &str| !name.starts_with("kvm-") && !name.starts_with("iou-");
    let began = Instant::now();
    loop {
        let mut threads = threads(running.pid());
        threads.retain(|name, _| ours(name));
        if names.iter().all(|name| threads.contains_key(*name)) && threads.values().all(confined) {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{threads:#?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn every_thread_has_no_privilege_and_a_filter() {
    let Some(_) = any_guest() else { return };
    let guest = guest();
    let mut running = vmm(guest.args()).args(["--memory", "32M", "--vcpus", "2", "--sandbox"]).spawn();
    running.until("here");
    all_confined(&running, &["vmm", "vcpu0", "vcpu1", "console"]);
    running.signal("TERM");
    let ended = running.end();
    ended.expect("signal", 143);
    assert_eq!(ended.report["config"]["sandbox"], true);
    let knob =
        &ended.report["knobs"].as_array().expect("knobs").iter().find(|k| k["flag"] == "sandbox").cloned();
    let got = knob.as_ref().and_then(|knob| knob["got"].as_str()).unwrap_or_default();
    assert!(got.starts_with("limits system calls by seccomp"), "{got}");
    assert_eq!(ended.report["sandbox"]["seccomp"], true);
}

#[test]
fn so_do_the_workers_of_devices() {
    let Some(_) = any_guest() else { return };
    let image = scratch("disk");
    fs::File::create(&image).and_then(|file| file.set_len(16 << 20)).expect("make an image");
    for engine in ["sync", "uring"] {
        let disk = format!("path={},engine={engine}", image.display());
        let machine = vmm(["--memory", "64M", "--workload", "blk,seconds=60", "--disk", &disk]);
        let running = machine.spawn();
        all_confined(&running, &["vmm", "vcpu0", "console", "blk0"]);
        running.signal("TERM");
        running.end().expect("signal", 143);
    }
    let _ = fs::remove_file(image);
}

/// Group kvm, a tap that root has made for him, and files of his own are all that it takes.
#[test]
fn an_ordinary_user_has_a_machine_with_all_of_it() {
    let Some(_) = any_guest() else { return };
    let Some(user) = User::new() else { return };
    let tap = Interface::tap_of(user::UID).and_then(|tap| tap.address().map(|()| tap));
    let tap = match tap {
        Ok(tap) => tap,
        Err(why) => return skip(&why),
    };
    let host = Reflector::at(&tap, true);
    let ask = format!("rr,items=20,role=send,address={},peer={}:{}", tap.at(2), tap.at(1), host.port);
    let disk = format!("path={}", user.file("disk", 16 << 20).display());
    let machine = vmm(["--memory", "64M", "--vcpus", "2", "--rng", "--disk", &disk])
        .args(tap.net())
        .args(["--workload", &ask, "--workload", "blk,items=50", "--workload", "blk,seconds=60"])
        .through(user.starts(""));
    let running = machine.spawn();
    all_confined(&running, &["vmm", "vcpu0", "vcpu1", "console", "blk0"]);
    let status = fs::read_to_string(format!("/proc/{}/status", running.pid())).expect("a process that runs");
    assert!(status.contains(&format!("Uid:\t{0}\t{0}\t{0}\t{0}\n", user::UID)), "{status}");
    let began = Instant::now();
    while host.datagrams.load(Ordering::Relaxed) < 20 && began.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(20));
    }
    running.signal("TERM");
    let ended = running.end();
    ended.expect("signal", 143);
    assert_eq!((ended.value(&ask, "ops"), ended.value(&ask, "lost")), (20, 0), "{}", ended.stderr);
    assert_eq!(ended.report["sandbox"]["seccomp"], true);
    // Nothing was missing that had to be said.
    assert!(!ended.stderr.contains("sandbox"), "{}", ended.stderr);
}

#[test]
fn off_is_off() {
    let Some(_) = any_guest() else { return };
    let guest = guest();
    let mut running = vmm(guest.args()).args(["--memory", "32M", "--sandbox=off"]).spawn();
    running.until("here");
    let threads = threads(running.pid());
    let own = &threads_of(&std::process::id());
    assert!(threads.len() >= 3, "{threads:#?}");
    assert!(threads.values().all(|status| status == own), "{threads:#?}\n{own:#?}");
    running.signal("TERM");
    let ended = running.end();
    ended.expect("signal", 143);
    assert_eq!(ended.report["sandbox"], serde_json::json!({ "seccomp": false, "landlock_version": null }));
}

/// What /proc says of the first thread of a process.
fn threads_of(pid: &u32) -> BTreeMap<String, String> {
    threads(*pid).into_values().next().expect("a thread")
}

/// Nobody else of this user reads its memory, and its files are its own: the report that it was asked for
/// comes out, in a folder that root does not rule without its capabilities.
#[test]
fn the_report_comes_out_where_another_user_rules() {
    let Some(_) = any_guest() else { return };
    let folder = scratch("folder");
    fs::create_dir(&folder).expect("make a folder");
    // Fails where this is not root: then the folder is ours.
    let _ = std::os::unix::fs::chown(&folder, Some(65_534), Some(65_534));
    let file = folder.join("text");
    let guest = Tiny::new(&harness::tiny::exit(3));
    let report = format!("text:{}", file.display());
    let ended = vmm(guest.args()).args(["--memory", "32M", "--report", &report]).run();
    ended.expect("exit", 3);
    assert!(fs::read_to_string(&file).expect("the report").contains("status 3"));
    assert_eq!(fs::read_dir(&folder).expect("the folder").count(), 1);
    assert!(Path::new(&folder).is_dir());
    fs::remove_dir_all(folder).expect("remove it");
}
