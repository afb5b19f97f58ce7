//! What a machine counts on is taken away while it runs: sectors of its disk, power, its tap, the pool of huge pages,
//! the time of day, memory. It says so in a line and goes on; or the host ends it, and nothing is in the way of
//! the next. In the lab, where all of that is ours to take.

mod harness;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use harness::host::{any_guest, in_lab, skip};
use harness::machine::{Ended, Machine, scratch, vmm};
use harness::tap::Interface;
use harness::tiny::{Tiny, exit, print, touch, wait_for_a_key};

/// `false`, after saying so, elsewhere.
fn ours() -> bool {
    if !in_lab() {
        skip("taking things away from a host is for the lab");
    }
    in_lab() && any_guest().is_some()
}

/// Runs a program to its end; `false`, after saying so, where there is none or it fails.
fn done(program: &str, args: &[&str]) -> bool {
    match Command::new(program).args(args).output() {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            skip(&format!("{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr).trim()));
            false
        }
        Err(error) => {
            skip(&format!("no {program}: {error}: run resources/install"));
            false
        }
    }
}

fn builtin(args: &[&str]) -> Machine {
    vmm(["--memory", "64M"]).args(args.iter().copied())
}

/// How many lines of the monitor hold `words`.
fn said(ended: &Ended, words: &str) -> usize {
    ended.stderr.lines().filter(|line| line.starts_with("vmm: ") && line.contains(words)).count()
}

/// A block device that the kernel makes of others (dmsetup(8)); gone with this.
struct Mapped(String);

impl Mapped {
    /// Sectors from, how many, and what they are. `None`, after saying so, where there can't be such a device.
    fn new(table: &str) -> Option<Mapped> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("mapped-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let made = done("busybox", &["modprobe", "-a", "dm-mod", "dm-zero"])
            && with_table(table, |file| {
                done("dmsetup", &["create", &name, "--noudevrules", "--noudevsync", file])
            });
        made.then_some(Mapped(name))
    }

    /// Nobody is there who would give its node a name.
    fn path(&self) -> String {
        let mut devices = fs::read_dir("/sys/block").expect("/sys/block").flatten();
        let ours = |name: Result<String, _>| name.is_ok_and(|name| name.trim() == self.0);
        let device = devices.find(|device| ours(fs::read_to_string(device.path().join("dm/name"))));
        format!("/dev/{}", device.expect("the device").file_name().display())
    }

    /// From here on nothing is written any more, whatever the host still has in its memory.
    fn cut(&self, sectors: u32) {
        assert!(done("dmsetup", &["suspend", "--noflush", "--nolockfs", "--noudevsync", &self.0]));
        assert!(with_table(&format!("0 {sectors} error"), |file| done("dmsetup", &["load", &self.0, file])));
        assert!(done("dmsetup", &["resume", "--noudevrules", "--noudevsync", &self.0]));
    }
}

fn with_table<T>(table: &str, run: impl FnOnce(&str) -> T) -> T {
    let file = scratch("table");
    fs::write(&file, table).expect("write the table");
    let ran = run(&file.display().to_string());
    let _ = fs::remove_file(file);
    ran
}

impl Drop for Mapped {
    fn drop(&mut self) {
        let remove = ["remove", "--retry", "--noudevrules", "--noudevsync", &self.0];
        let _ = Command::new("dmsetup").args(remove).output();
    }
}

#[test]
fn sectors_that_fail_are_errors_of_the_guest() {
    if !ours() {
        return;
    }
    // 16 MiB, the second of which fails. The others read as zeroes and forget what is written.
    let Some(broken) = Mapped::new("0 2048 zero\n2048 2048 error\n4096 28672 zero") else { return };
    // All of the disk once; a MiB are 256 requests.
    let (write, read) = ("blk,rw=write,depth=8,items=4096", "blk,rw=read,depth=8,items=4096");
    let journal = "journal,items=1000";
    let run = |way: &str, workloads: [&str; 2]| {
        let disk = format!("path={},{way}", broken.path());
        let ended = builtin(&["--disk", &disk]).args(workloads.map(|one| ["--workload", one]).concat()).run();
        ended.expect("exit", 0);
        assert_eq!(ended.report["devices"][0]["faults"], 0, "{way}");
        ended
    };
    let errors = |ended: &Ended, name: &str| {
        let rows = ended.report["devices"][0]["operations"].as_array().expect("a list");
        rows.iter().find(|row| row["name"] == name).expect(name)["errors"].as_u64()
    };
    for way in ["engine=sync,direct", "engine=uring,direct,queues=2"] {
        let ended = run(way, [write, read]);
        assert_eq!((ended.value(write, "failed"), ended.value(read, "failed")), (256, 256), "{way}");
        assert_eq!((errors(&ended, "write"), errors(&ended, "read")), (Some(256), Some(256)), "{way}");
        assert_eq!(said(&ended, ": I/O error (os error 5); the guest gets"), 2, "{}", ended.stderr);
    }
    // What the host finds out after the write is the flush's error: nobody is told that it is kept.
    for way in ["engine=sync", "engine=uring"] {
        let ended = run(way, [write, journal]);
        assert_eq!((ended.value(write, "failed"), errors(&ended, "flush")), (0, Some(1)), "{way}");
        assert_eq!(ended.record(journal)["outcome"], "failed:a-record-can-not-be-kept", "{way}");
        assert_eq!(said(&ended, ": flush: I/O error"), 1, "{}", ended.stderr);
    }
}

/// The host's page cache is lost, as if its power failed: what the guest was told is flushed is on the disk.
#[test]
fn power_that_fails_takes_nothing_that_was_flushed() {
    if !ours() {
        return;
    }
    // A disk in memory of 4 MiB, and what the host caches of it under another name.
    const SECTORS: u32 = 8192;
    const MEDIUM: &str = "/dev/ram0";
    if !done("busybox", &["modprobe", "brd", "rd_nr=1", "rd_size=4096"]) {
        return;
    }
    let cached = || Mapped::new(&format!("0 {SECTORS} linear {MEDIUM} 0"));
    let (journal, look) = ("journal,size=16k,items=1000000", "journal,size=16k,items=0");
    let overwrite = "blk,rw=write,size=16k,items=256,depth=8";
    let machine = |disk: &str, way: &str, workload| {
        builtin(&["--disk", &format!("path={disk}{way}"), "--workload", workload])
    };
    let found = |disk: &str| {
        let ended = machine(disk, ",engine=sync", look).run();
        ended.expect("exit", 0);
        ended.value(look, "found")
    };
    for way in [",engine=sync", ",engine=uring"] {
        let Some(disk) = cached() else { return };
        // Open here, too: the last to close it would write what is in memory.
        let held = fs::File::open(disk.path()).expect("open it");
        let before = found(&disk.path());
        let mut running = machine(&disk.path(), way, journal).spawn();
        running.until_times("journal: kept ", 20);
        running.signal("KILL");
        let killed = running.end();
        disk.cut(SECTORS);
        drop((held, disk));
        let lines = killed.stdout.rsplit_once('\n').map_or("", |(whole, _)| whole).lines();
        let mut kept =
            lines.filter_map(|line| line.trim_end().strip_prefix("journal: kept ")?.parse::<u64>().ok());
        let kept = kept.next_back().expect("some are kept");
        assert!(kept >= before + 160, "{before}, {kept}");
        let there = found(MEDIUM);
        assert!(there >= kept, "{way}: {kept} was kept, {there} is there");

        // What nobody has flushed is lost with the power: it does fail.
        let Some(disk) = cached() else { return };
        let held = fs::File::open(disk.path()).expect("open it");
        machine(&disk.path(), way, overwrite).run().expect("exit", 0);
        disk.cut(SECTORS);
        drop((held, disk));
        assert_eq!(found(MEDIUM), there, "{way}: written without a flush");
    }
}

#[test]
fn a_tap_that_goes_leaves_a_machine_that_stays() {
    if !ours() {
        return;
    }
    let tap = match Interface::tap(false) {
        Ok(tap) => tap,
        Err(why) => return skip(&why),
    };
    tap.address().expect("an address");
    let ([flag, net], jitter) = (tap.net(), "jitter,items=500");
    let udp = format!("udp,role=send,peer={}:9,address={},items=600,rate=300", tap.at(1), tap.at(2));
    let machine = builtin(&[&flag, &net]).args(["--workload", &udp, "--workload", jitter]);
    let running = machine.args(["--workload", "exit=5"]).spawn();
    // In the middle of a stream.
    let came = format!("/sys/class/net/{}/statistics/rx_packets", tap.name);
    let frames = || fs::read_to_string(&came).ok().and_then(|text| text.trim().parse::<u32>().ok());
    while frames().expect("a count") < 50 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let gone = format!("tap {}: File descriptor in bad state", tap.name);
    drop(tap);
    let ended = running.end();
    ended.expect("exit", 5);
    assert_eq!(said(&ended, &gone), 1, "{}", ended.stderr);
    assert_eq!(said(&ended, "it is gone, and the guest's link is down"), 1, "{}", ended.stderr);
    assert_eq!(ended.value(jitter, "ops"), 500);
    let queues = &ended.report["devices"][0]["queues"];
    assert!(queues[1]["errors"].as_u64() > Some(0), "{queues}");
}

#[test]
fn a_pool_that_is_emptied_keeps_what_was_promised() {
    if !ours() {
        return;
    }
    const POOL: &str = "/proc/sys/vm/nr_hugepages";
    let set = |pages: &str| fs::write(POOL, pages).expect("set the pool's size");
    let before = fs::read_to_string(POOL).expect("the pool's size");
    set("64");
    if fs::read_to_string(POOL).expect("the pool's size").trim() != "64" {
        set(&before);
        return skip("the lab has no 64 huge pages");
    }
    let guest = Tiny::new(&[print("here\n"), wait_for_a_key(), touch(2 << 20, 62 << 8), exit(4)].concat());
    let machine = vmm(guest.args()).args(["--memory", "64M", "--hugepages"]);
    let mut running = machine.spawn();
    running.until("here");
    set("0");
    let next = machine.run();
    running.press("x");
    let ended = running.end();
    set(&before);
    next.expect_refusal(73, "missing: echo ");
    ended.expect("exit", 4);
    assert_eq!(ended.report["memory"]["got_bytes"], 64 << 20, "{}", ended.report["memory"]);
    assert_eq!(ended.report["memory"]["coverage"], 1.0);
}

#[test]
fn a_clock_that_jumps_moves_nothing_here() {
    if !ours() {
        return;
    }
    let image = scratch("image");
    fs::File::create(&image).and_then(|file| file.set_len(1 << 20)).expect("make an image");
    let disk = format!("path={},rate=200ops", image.display());
    let (blk, jitter) = ("blk,items=300", "jitter,items=300");
    let machine = builtin(&["--disk", &disk, "--timeout", "100", "--report", "live"]);
    let running = machine.args(["--workload", blk, "--workload", jitter, "--workload", "exit=6"]).spawn();
    for jump in ["+1 day", "-2 days", "+1 day"] {
        std::thread::sleep(Duration::from_millis(400));
        assert!(done("date", &["-s", jump]));
    }
    let ended = running.end();
    let _ = fs::remove_file(&image);
    ended.expect("exit", 6);
    const HOUR_NS: u64 = 3_600_000_000_000;
    assert_eq!((ended.value(blk, "ops"), ended.value(blk, "failed")), (300, 0));
    assert!(ended.value(blk, "max_ns") < HOUR_NS && ended.value(jitter, "late_max_ns") < HOUR_NS);
    let wall = ended.report["time"]["wall_us"].as_u64().expect("a time");
    assert!(wall < HOUR_NS / 1000, "{}", ended.report["time"]);
    let phases: u64 = ended.report["phases"]
        .as_array()
        .expect("phases")
        .iter()
        .filter_map(|one| one["wall_us"].as_u64())
        .sum();
    assert!(phases <= wall, "{phases} of {wall}");
}

/// A control group with 48 MiB of memory; gone with this.
struct Tight(&'static Path);

impl Drop for Tight {
    fn drop(&mut self) {
        let _ = fs::remove_dir(self.0);
    }
}

#[test]
fn who_is_killed_for_memory_leaves_nothing_in_the_way() {
    if !ours() {
        return;
    }
    let tight = Tight(Path::new("/sys/fs/cgroup/tight"));
    let _ = fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
    if fs::create_dir(tight.0).and_then(|()| fs::write(tight.0.join("memory.max"), "48M")).is_err() {
        return skip("no control groups that limit memory");
    }
    let image = scratch("image");
    fs::File::create(&image).and_then(|file| file.set_len(1 << 20)).expect("make an image");
    let disk = format!("path={}", image.display());
    let inside = format!("echo $$ >{}/cgroup.procs; exec choom -n 500 -- \"$@\"", tight.0.display());
    let guest = Tiny::new(&[touch(2 << 20, 120 << 8), exit(0)].concat());
    let machine = vmm(guest.args()).args(["--memory", "128M", "--disk", &disk]);
    let through = machine.clone().through(["sh", "-c", &inside, "sh"]);
    let killed = through.run();
    assert_eq!(killed.status, 128 + 9, "{}", killed.stderr);
    let events = fs::read_to_string(tight.0.join("memory.events")).expect("its events");
    assert!(events.lines().any(|line| line == "oom_kill 1"), "{events}");
    // Who wants to have it all at once is told before.
    let refused = through.args(["--prefault"]).run();
    refused.expect_refusal(73, "raise /sys/fs/cgroup/tight/memory.max");
    machine.run().expect("exit", 0);
    let _ = fs::remove_file(&image);
}
