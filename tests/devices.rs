//! What a request costs: returns to the monitor, kicks, interrupts and system calls; what each mechanism
//! that hides exits is worth; what idle devices hold and do. Counts, never times.

mod harness;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use harness::host::{in_lab, linux_guest, skip};
use harness::kernels;
use harness::machine::{Ended, Machine, Running, scratch, vmm};
use serde_json::Value;

/// One request at a time on the first disk, then batches of 32 on the second.
const ONE: &str = "blk,size=4096,depth=1,items=1000";
const MANY: &str = "blk,size=4096,depth=32,items=16000,disk=1";
/// As the first, long enough to see where its worker goes.
const LONG: &str = "blk,size=4096,depth=1,items=4000";
/// What the guest's kernel reads of a disk before any workload does, in requests.
const BEFORE: u64 = 64;

/// Two disks of 16 MiB under Debian's cloud kernel.
struct Disks {
    paths: [PathBuf; 2],
    machine: Machine,
}

impl Disks {
    fn new() -> Option<Disks> {
        Disks::with(&[ONE, MANY])
    }

    fn with(workloads: &[&str]) -> Option<Disks> {
        linux_guest()?;
        let kernel = kernels::cloud()?;
        let paths = [scratch("one"), scratch("many")];
        // A disk of one queue has none to spare for polled requests.
        let mut machine = vmm(["--cmdline", "quiet virtio_blk.poll_queues=1"]);
        machine = machine.args(["--kernel".into(), kernel.bzimage.into_os_string()]);
        machine = machine.args(["--modules".into(), kernel.modules.into_os_string()]);
        for path in &paths {
            fs::write(path, vec![0x5a; 16 << 20]).expect("write an image");
            machine = machine.args(["--disk".into(), format!("path={}", path.display())]);
        }
        let words = workloads.iter().flat_map(|workload| ["--workload", workload]);
        Some(Disks { paths, machine: machine.args(words) })
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        self.paths.iter().for_each(|path| drop(fs::remove_file(path)));
    }
}

/// A number of the one queue of a device.
fn queue(ended: &Ended, device: usize, key: &str) -> u64 {
    let queue = &ended.report["devices"][device]["queues"][0];
    queue[key].as_u64().unwrap_or_else(|| panic!("no {key} in {queue}"))
}

/// Returns to the monitor while a workload ran, but for those by which the guest tells of itself.
fn returns(ended: &Ended, workload: &str) -> u64 {
    let phases = ended.report["phases"].as_array().expect("a list");
    let phase = phases.iter().find(|phase| phase["name"] == workload).expect(workload);
    let rows = phase["exits"]["userspace"].as_array().expect("a list");
    let told = |row: &&Value| row["target"].as_str().is_some_and(|target| target.starts_with("exit-port"));
    rows.iter().filter(|row| !told(row)).map(|row| row["count"].as_u64().expect("a count")).sum()
}

/// Counts system calls of the whole machine by thread and number, until it is dropped.
struct Calls;

const EVENT: &str = "/sys/kernel/tracing/events/raw_syscalls/sys_enter";
const TRIGGER: &str = "hist:keys=common_pid.execname,id:size=16384";
/// ioctl(2).
const IOCTL: &str = "16";

impl Calls {
    /// In the lab, which is a machine of the test's own.
    fn count() -> Option<Calls> {
        if !in_lab() {
            return None;
        }
        fs::write(Path::new(EVENT).join("trigger"), TRIGGER).expect("count system calls");
        Some(Calls)
    }

    /// Calls of threads called `name`: all, and ioctls.
    fn of(&self, name: &str) -> (u64, u64) {
        // `{ common_pid: blk0            [        99], id:         16 } hitcount:          7`
        let text = fs::read_to_string(Path::new(EVENT).join("hist")).expect("read what was counted");
        let (mut all, mut ioctls) = (0, 0);
        for line in text.lines() {
            let Some((key, hits)) = line.split_once("hitcount:") else { continue };
            let mut words = key.split_whitespace().filter(|word| !word.ends_with(':') && *word != "{");
            if words.next() != Some(name) {
                continue;
            }
            let hits: u64 = hits.trim().parse().expect("a number");
            all += hits;
            ioctls += if key.split_whitespace().any(|word| word == IOCTL) { hits } else { 0 };
        }
        (all, ioctls)
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        _ = fs::write(Path::new(EVENT).join("trigger"), format!("!{TRIGGER}"));
    }
}

/// How often the workers have run, each by its name.
fn turns(machine: &Running) -> Vec<(String, u64)> {
    let mut turns = Vec::new();
    for task in fs::read_dir(format!("/proc/{}/task", machine.pid())).expect("a process that runs").flatten()
    {
        let read = |file| fs::read_to_string(task.path().join(file)).unwrap_or_default();
        let name = read("comm").trim().to_string();
        // Time on a CPU, time waiting for one, and how often (Linux Documentation/scheduler/sched-stats.rst).
        let count = read("schedstat").split_whitespace().nth(2).and_then(|word| word.parse().ok());
        if name.starts_with("blk") || name.starts_with("net") {
            turns.extend(count.map(|count| (name, count)));
        }
    }
    turns.sort();
    turns
}

/// Waits for a second in which no worker runs.
fn until_idle(machine: &Running, workers: usize) {
    let began = Instant::now();
    let mut before = turns(machine);
    while began.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_secs(1));
        let now = turns(machine);
        if now == before && now.len() == workers {
            return;
        }
        before = now;
    }
    panic!("workers that have nothing to do still run: {before:?}");
}

#[test]
fn a_batch_is_one_kick_one_interrupt_and_few_calls() {
    let Some(mut disks) = Disks::new() else { return };
    let tap = in_lab() && {
        let ip = Command::new("ip").args(["tuntap", "add", "dev0", "mode", "tap", "vnet_hdr"]).status();
        ip.expect("run ip").success()
    };
    if tap {
        disks.machine = disks.machine.clone().args(["--net", "tap=dev0"]);
    }
    let calls = Calls::count();
    let mut machine = disks.machine.clone().args(["--workload", "shell"]).spawn();
    machine.until("/ # ");
    until_idle(&machine, 2 + usize::from(tap));
    let counted = calls.map(|calls| calls.of("blk1"));
    std::io::Write::write_all(machine.stdin.as_mut().expect("not at its end"), b"exit\n").expect("type");
    let ended = machine.end();
    ended.expect("exit", 0);

    let of = |device, key| queue(&ended, device, key);
    // The guest's kernel makes one of two requests that touch, now and then.
    assert!(of(0, "chains") >= 1000 && of(1, "chains") >= 15000, "{}", ended.report["devices"]);
    // The guest kicks again where it finds the worker asleep: once a request at the most.
    for (device, at_once) in [(0, 1), (1, 16)] {
        let most = of(device, "chains") / at_once + BEFORE;
        assert!(of(device, "kicks") <= most, "{} kicks, not {most}", of(device, "kicks"));
        assert!(of(device, "interrupts") <= most, "{} interrupts, not {most}", of(device, "interrupts"));
        assert_eq!(of(device, "kick_exits"), 0);
    }
    let most = 17000 / 100;
    let back = returns(&ended, ONE) + returns(&ended, MANY);
    assert!(back <= most, "{back} returns to the monitor for 17000 requests");
    match counted {
        Some((all, ioctls)) => {
            assert!(all > 0 && all <= of(1, "chains") / 8 + BEFORE, "{all} calls for {}", of(1, "chains"));
            assert!(ioctls <= 8, "{ioctls} ioctls of a worker");
        }
        None => skip("system calls are counted in the lab"),
    }
    let resident = ended.report["memory"]["vmm_resident_bytes"].as_u64();
    assert!(resident < Some(3 << 20), "{resident:?} bytes beyond the guest's");
}

#[test]
fn without_a_mechanism_its_exits_and_calls_are_there() {
    let Some(disks) = Disks::new() else { return };
    let calls = Calls::count();
    let ended = disks.machine.clone().args(["--ioeventfd=off", "--irqfd=off", "--busy-poll=0"]).run();
    ended.expect("exit", 0);
    for (device, workload) in [(0, ONE), (1, MANY)] {
        let exits = queue(&ended, device, "kick_exits");
        assert_eq!(exits, queue(&ended, device, "kicks"));
        let back = returns(&ended, workload);
        assert!(exits > 100 && back + BEFORE >= exits, "{exits} kicks by exits, {back} returns");
    }
    if let Some(calls) = calls {
        let (_, ioctls) = calls.of("blk0");
        assert!(ioctls >= queue(&ended, 0, "interrupts"), "{ioctls} ioctls");
    }
    assert_eq!(ended.report["devices"][0]["interrupts_by"], Value::from("ioctl"));
}

#[test]
fn a_worker_that_polls_is_not_kicked() {
    let Some(disks) = Disks::new() else { return };
    let ended = disks.machine.clone().args(["--busy-poll", "1000000"]).run();
    ended.expect("exit", 0);
    for device in [0, 1] {
        let (kicks, chains) = (queue(&ended, device, "kicks"), queue(&ended, device, "chains"));
        assert!(kicks <= chains / 64, "{kicks} kicks for {chains} requests");
        assert!(queue(&ended, device, "polls_found") > 0);
    }
}

#[test]
fn a_worker_looks_for_the_next_before_it_sleeps_where_one_comes_at_a_time() {
    let Some(disks) = Disks::with(&[LONG]) else { return };
    // Each on a CPU of its own.
    if fs::read_to_string("/sys/devices/system/cpu/online").is_ok_and(|cpus| cpus.trim() == "0") {
        return skip("polling needs a CPU");
    }
    let run = |flags: &[&str]| {
        let ended = disks.machine.clone().args(["--pin=0@0,blk0@1"]).args(flags).run();
        ended.expect("exit", 0);
        ["chains", "kicks", "polls", "polls_found"].map(|key| queue(&ended, 0, key))
    };
    let [chains, kicks, polls, _] = run(&["--busy-poll=0"]);
    assert!(polls == 0 && kicks > chains / 2, "{kicks} kicks for {chains}, {polls} polls");
    let mut looked = 0;
    for _ in 0..3 {
        let [chains, _, polls, found] = run(&[]);
        assert!(found <= polls, "{found} of {polls}");
        looked += polls;
        // How often depends on how long this host takes to get from one to the next.
        if found > chains / 64 {
            return;
        }
    }
    assert!(looked > 0, "it never looked");
    skip("on a host as busy as this a worker had better sleep");
}

#[test]
fn a_polled_queue_takes_neither_kick_nor_interrupt() {
    let Some(mut disks) = Disks::new() else { return };
    let (path, polled) = (scratch("polled"), "blk,disk=2,blk=poll,items=2000");
    fs::write(&path, vec![0x5a; 16 << 20]).expect("write an image");
    disks.machine = disks.machine.clone().args(["--vcpus=2", "--busy-poll=20000", "--workload", polled]);
    let ended = disks.machine.clone().args(["--disk", &format!("path={},queues=2", path.display())]).run();
    fs::remove_file(path).expect("there");
    ended.expect("exit", 0);
    assert_eq!((ended.value(polled, "ops"), ended.value(polled, "failed")), (2000, 0));
    let queue = &ended.report["devices"][2]["queues"][1];
    let of = |key: &str| queue[key].as_u64().unwrap_or_else(|| panic!("no {key} in {queue}"));
    assert!(of("chains") >= 2000, "{queue}");
    assert_eq!(of("interrupts"), 0, "{queue}");
    assert!(of("kicks") <= of("chains") / 64, "{queue}");
}

#[test]
fn a_worker_that_is_waited_for_is_where_its_vcpu_is() {
    let Some(disks) = Disks::with(&[LONG]) else { return };
    if fs::read_to_string("/sys/devices/system/cpu/online").is_ok_and(|cpus| cpus.trim() == "0") {
        return skip("a worker follows its vCPU where there are several CPUs");
    }
    let run = |flags: &[&str]| {
        let ended = disks.machine.clone().args(["--busy-poll=0"]).args(flags).run();
        ended.expect("exit", 0);
        let phases = ended.report["phases"].as_array().expect("a list");
        let phase = phases.iter().find(|phase| phase["name"] == LONG).expect(LONG);
        let exits = phase["exits"]["total"].as_u64();
        (queue(&ended, 0, "chains"), queue(&ended, 0, "chains_beside"), queue(&ended, 0, "follows"), exits)
    };
    // The vCPU stays: all that moves is the worker.
    let (chains, beside, follows, with) = run(&["--pin=0@0"]);
    assert!(follows > 0 && beside > chains / 2, "{beside} of {chains} beside it, {follows} moves");
    for flags in [&["--pin=0@0", "--follow-vcpu=off"][..], &["--pin=0@0,blk0@1"]] {
        let (_, beside, follows, without) = run(flags);
        assert_eq!((beside, follows), (0, 0), "{flags:?}");
        // Some 1.7 exits a request to 3.
        if let (Some(with), Some(without)) = (with, without) {
            assert!(with < without * 9 / 10, "{with} exits beside its vCPU, {without} with {flags:?}");
        }
    }
    // Free to move itself, the vCPU is followed.
    let (chains, beside, follows, _) = run(&[]);
    assert!(follows > 0 && beside > chains / 4, "{beside} of {chains} beside it, {follows} moves");
}
