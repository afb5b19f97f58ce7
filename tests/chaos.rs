//! A guest that attacks: storms of all that it can do to its machine, and afterwards the machine is as it
//! was. No crash, no hang; memory, threads and descriptors of the monitor as before; the report adds up; the
//! devices serve who keeps to their rules; and the machine ends on command.
//!
//! With VMM a monitor under AddressSanitizer and ASAN_OPTIONS set, they run against that.

mod harness;

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use abi::workload::STORMS;
use harness::host::{any_guest, in_lab, note, skip};
use harness::machine::{Ended, Machine, Running, binary, scratch, vmm};
use harness::tap::Interface;
use serde_json::Value;

/// Deeds of a storm, for CI; `CHAOS_ITEMS` asks for more.
fn items() -> u64 {
    from_environment("CHAOS_ITEMS").unwrap_or(if in_lab() { 2000 } else { 4000 })
}

/// Storms over one machine; `CHAOS_STORMS` asks for more.
fn storms() -> u64 {
    from_environment("CHAOS_STORMS").unwrap_or(2).max(2)
}

/// The storm that a test means by `number`; another one with `CHAOS_SEED`.
fn seed(number: u64) -> u64 {
    number + 1_000_000 * from_environment("CHAOS_SEED").unwrap_or(0)
}

/// All that go over the machine of this test.
fn of_test(number: u64) -> impl Iterator<Item = u64> {
    (0..storms()).map(move |storm| number + 1000 * storm)
}

/// Its workload.
fn storm(number: u64) -> String {
    format!("chaos,seed={},items={}", seed(number), items())
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The monitor is one under AddressSanitizer, whose own needs the sandbox does not know, and whose memory is
/// several times that of others.
fn sanitized() -> bool {
    std::env::var_os("ASAN_OPTIONS").is_some()
}

/// An image of its own, gone with it.
struct Image(PathBuf);

impl Image {
    fn new() -> Image {
        let path = scratch("image");
        fs::File::create(&path).and_then(|file| file.set_len(16 << 20)).expect("make an image");
        Image(path)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// After a storm nothing is done for a while, and no device is in use: what there is then is looked at.
const CALM: &str = "jitter,period=100000,items=10";
/// How a disk is used as one should; and who begins behind that, and says so.
const JOURNAL: &str = "journal,items=48";
const LOOK: &str = "journal,items=0";

/// A machine that storms, uses its disk as one should, and then waits to be ended.
fn stormy(number: u64, image: &Image, disk: &str, more: &[&str]) -> Machine {
    let limit = if in_lab() || sanitized() { 240 } else { 60 } + storms() * items() / 100;
    // With all of its memory from the start, what grows is the monitor.
    let disk = format!("path={}{disk}", image.0.display());
    let machine = vmm(["--memory", "64M", "--prefault", "--rng", "--disk", &disk])
        .args(
            of_test(number)
                .flat_map(|number| ["--workload".into(), storm(number), "--workload".into(), CALM.into()]),
        )
        .args(["--workload", JOURNAL, "--workload", LOOK])
        .args(["--workload", "jitter,period=100000,items=36000"])
        .args(more)
        .limit(Duration::from_secs(limit));
    if sanitized() { machine.args(["--sandbox=off"]) } else { machine }
}

/// Guest memory, all of which is there from the start.
const GUEST_KILOBYTES: u64 = 64 << 10;

/// What the monitor holds that is not its guest's.
#[derive(Debug)]
struct Held {
    /// But for its program's pages, as they are in the file: they come and go.
    kilobytes: u64,
    /// The most that it ever was, its program's among them.
    peak: u64,
    threads: usize,
    /// But for sockets: of a peer that comes and goes there are some, or none.
    descriptors: usize,
    sockets: usize,
}

/// What is known of the first and of the last, in a line.
struct Brief<'h>(&'h [Held]);

impl Display for Brief<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let [first, .., last] = self.0 else { return Ok(()) };
        let each = |of: fn(&Held) -> u64| format!("{} → {}", of(first), of(last));
        write!(f, "{} KiB, at most {}, ", each(|held| held.kilobytes), last.peak)?;
        write!(f, "threads {}, ", each(|held| held.threads as u64))?;
        write!(f, "descriptors {}", each(|held| (held.descriptors + held.sockets) as u64))
    }
}

/// As /proc has it.
fn held(process: u32) -> Held {
    let of = |name: &str| format!("/proc/{process}/{name}");
    let entries = |name: &str| fs::read_dir(of(name)).expect("a process that runs").flatten();
    let is_socket = |open: &fs::DirEntry| {
        fs::read_link(open.path()).is_ok_and(|what| what.to_string_lossy().starts_with("socket:"))
    };
    let (sockets, files): (Vec<_>, Vec<_>) = entries("fd").partition(is_socket);
    let text = |name: &str| fs::read_to_string(of(name)).expect("a process that runs");
    let number = |line: &str, name: &str| -> Option<u64> {
        line.strip_prefix(name)?.trim().trim_end_matches(" kB").parse().ok()
    };
    let program = fs::read_link(of("exe")).expect("a process that runs");
    let (mut kilobytes, mut guest, mut of_guest, mut of_program) = (0, false, 0, false);
    for line in text("smaps").lines() {
        let mut words = line.split_whitespace();
        if words.next().is_some_and(|word| !word.ends_with(':')) {
            // A mapping: addresses, permissions, offset, device, inode, path.
            of_program = words.nth(4).is_some_and(|path| program == Path::new(path));
        }
        // The one mapping of this size.
        guest = number(line, "Size:").map_or(guest, |size| size == GUEST_KILOBYTES);
        let counted = if of_program { "Anonymous:" } else { "Rss:" };
        if guest {
            of_guest += number(line, "Rss:").unwrap_or(0);
        } else {
            kilobytes += number(line, counted).unwrap_or(0);
        }
    }
    let most = text("status").lines().find_map(|line| number(line, "VmHWM:")).expect("a peak");
    Held {
        kilobytes,
        peak: most.saturating_sub(of_guest),
        threads: entries("task").count(),
        descriptors: files.len(),
        sockets: sockets.len(),
    }
}

/// Waits for the end of the `nth` storm, and for that of its devices' threads.
fn after(machine: &mut Running, nth: usize) -> Held {
    machine.until_times("the storm is over", nth);
    std::thread::sleep(Duration::from_millis(200));
    held(machine.pid())
}

/// Lets it storm, and sees that nothing is left of that.
fn weather(number: u64, machine: &Machine) -> Ended {
    let mut machine = machine.spawn();
    let held: Vec<Held> = (1..).zip(of_test(number)).map(|(nth, _)| after(&mut machine, nth)).collect();
    assert!(machine.shows("journal: found ", 2), "seed {}: the disk serves nobody", seed(number));
    machine.signal("TERM");
    stood(number, &held, machine.end())
}

/// What a monitor may hold at any time, whatever its guest does.
const MOST_KILOBYTES: u64 = 16 << 10;

/// What must be true of a machine that storms went over.
fn stood(number: u64, held: &[Held], ended: Ended) -> Ended {
    let begun = seed(number);
    ended.expect("signal", 128 + 15);
    let [first, .., last] = held else { panic!("{held:?}") };
    for held in held {
        assert_eq!(
            (first.threads, first.descriptors),
            (held.threads, held.descriptors),
            "seed {begun}: {first:?}, {held:?}"
        );
        // A connection and its way back.
        assert!(first.sockets.abs_diff(held.sockets) <= 2, "seed {begun}: {first:?}, {held:?}");
    }
    // Rows of the ledger, which each phase of each CPU has for itself.
    let grown = last.kilobytes.saturating_sub(first.kilobytes);
    let small = grown < 1024 + 64 * storms() && last.kilobytes < MOST_KILOBYTES && last.peak < MOST_KILOBYTES;
    assert!(sanitized() || small, "seed {begun}: {first:?}, {last:?}");
    for number in of_test(number) {
        let name = storm(number);
        assert!(ended.value(&name, "ops") >= items(), "{}", ended.stderr);
        assert_eq!(ended.value(&name, "seed"), seed(number));
    }
    assert_eq!(ended.value(JOURNAL, "ops"), 48, "{}", ended.stderr);
    adds_up(&ended);
    note("stood", &format!("{} storms of {} deeds, seed {begun}: {}", held.len(), items(), Brief(held)));
    ended
}

/// Who counts what by himself agrees with the others, to the last exit.
fn adds_up(ended: &Ended) {
    let report = &ended.report;
    let sum = |rows: &Value, key: &str| -> u64 {
        rows.as_array().expect("rows").iter().map(|row| row[key].as_u64().expect("a count")).sum()
    };
    let exits = &report["exits"];
    let total = exits["total"].as_u64().expect("a total");
    // KVM's parts and what is left of its total; KVM's counts of each vCPU; of each phase.
    let unexplained = exits["unexplained"].as_u64().expect("no exit is counted twice");
    assert_eq!(sum(&exits["explained"], "count") + unexplained, total);
    assert_eq!(sum(&report["vcpus"], "exits"), total);
    let phases = report["phases"].as_array().expect("phases");
    let in_phases: u64 = phases.iter().map(|phase| phase["exits"]["total"].as_u64().expect("a total")).sum();
    assert_eq!(in_phases, total, "phases");
    // The ledgers' rows: of the whole, of each phase, and what each vCPU thread has counted.
    let returns = sum(&exits["userspace"], "count");
    assert_eq!(sum(&report["vcpus"], "userspace_exits"), returns);
    assert_eq!(phases.iter().map(|phase| sum(&phase["exits"]["userspace"], "count")).sum::<u64>(), returns);
    assert!(returns > items() / 2, "{returns} returns");
    // Deeds of the guest: those of all kinds.
    for record in report["records"].as_array().expect("records") {
        let values = &record["values"];
        let kinds = STORMS.iter().filter_map(|kind| values[kind].as_u64());
        if record["workload"].as_str().is_some_and(|name| name.starts_with("chaos")) {
            assert_eq!(kinds.sum::<u64>(), record["ops"].as_u64().expect("a count"), "{record}");
        }
    }
}

#[test]
fn one_cpu_against_functions_of_pci() {
    let Some(_) = any_guest() else { return };
    let image = Image::new();
    weather(1, &stormy(1, &image, ",engine=sync", &[]));
}

#[test]
fn three_cpus_one_of_them_stopped_and_started() {
    let Some(_) = any_guest() else { return };
    let image = Image::new();
    let ended = weather(2, &stormy(2, &image, ",engine=uring,queues=2", &["--vcpus", "3"]));
    assert!(ended.value(&storm(2), "cpus") > 0);
}

#[test]
fn register_pages_of_virtio_mmio() {
    let Some(_) = any_guest() else { return };
    let image = Image::new();
    weather(3, &stormy(3, &image, "", &["--vcpus", "2", "--transport", "mmio"]));
}

#[test]
fn a_network_card_and_its_control_queue() {
    let Some(_) = any_guest() else { return };
    let tap = match Interface::tap(true) {
        Ok(tap) => tap,
        Err(why) => return skip(&why),
    };
    let image = Image::new();
    let net = format!("tap={},queues=2", tap.name);
    weather(4, &stormy(4, &image, "", &["--vcpus", "2", "--net", &net]));
}

#[test]
fn devices_of_the_hosts_kernel() {
    let Some(_) = any_guest() else { return };
    if !fs::exists("/dev/vhost-net").unwrap_or(false) || !fs::exists("/dev/vhost-vsock").unwrap_or(false) {
        return skip("no /dev/vhost-net or no /dev/vhost-vsock");
    }
    let tap = match Interface::tap(false) {
        Ok(tap) => tap,
        Err(why) => return skip(&why),
    };
    let image = Image::new();
    let net = format!("tap={},vhost=on", tap.name);
    weather(5, &stormy(5, &image, "", &["--vcpus", "2", "--net", &net, "--vsock", "cid=77"]));
}

/// Another process that serves a device, at sockets of its own; gone with this.
struct Peer {
    child: Child,
    sockets: Vec<PathBuf>,
}

impl Peer {
    /// Starts it and waits for its sockets; `None`, after saying so, where there is no such program.
    fn start(mut command: Command, sockets: Vec<PathBuf>) -> Option<Peer> {
        let Ok(child) = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn() else {
            skip(&format!("no {}: run resources/install", command.get_program().display()));
            return None;
        };
        let began = Instant::now();
        while !sockets.iter().all(|socket| socket.exists()) {
            assert!(began.elapsed() < Duration::from_secs(30), "{command:?} makes no socket");
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(Peer { child, sockets })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
        self.sockets.iter().for_each(|socket| _ = fs::remove_file(socket));
    }
}

/// Its rings are the switch's to read: whoever is at the other ports is served as before, and the switch holds
/// what it held.
#[test]
fn a_port_of_a_switch() {
    let Some(_) = any_guest() else { return };
    let sockets: Vec<PathBuf> = (0..3).map(|_| scratch("port")).collect();
    let net = |port: usize| format!("vhost-user={}", sockets[port].display());
    let mut command = Command::new(binary());
    command.args(["switch", "--report", "none"]);
    if sanitized() {
        command.arg("--sandbox=off");
    }
    sockets.iter().for_each(|socket| _ = command.arg("--port").arg(socket));
    let Some(switch) = Peer::start(command, sockets.clone()) else { return };
    let (reflect, ask) =
        ("rr,address=10.0.0.1,items=20", "rr,role=send,address=10.0.0.2,peer=10.0.0.1,items=20");
    let machine = |port, workload| vmm(["--memory", "64M", "--workload", workload, "--net", &net(port)]);
    // What the switch holds when all have left.
    let after_an_exchange = || {
        let reflector = machine(1, reflect).spawn();
        let asked = machine(2, ask).run();
        asked.expect("exit", 0);
        assert_eq!((asked.value(ask, "ops"), asked.value(ask, "lost")), (20, 0), "{}", asked.stderr);
        reflector.end().expect("exit", 0);
        std::thread::sleep(Duration::from_millis(300));
        held(switch.child.id())
    };
    let before = after_an_exchange();
    let image = Image::new();
    weather(7, &stormy(7, &image, "", &["--vcpus", "2", "--net", &net(0)]));
    let after = after_an_exchange();
    assert_eq!((before.threads, before.descriptors), (after.threads, after.descriptors));
    assert!(sanitized() || after.peak < MOST_KILOBYTES, "{before:?}, {after:?}");
}

/// The disk is QEMU's, who may be brought down by it: not so the machine.
#[test]
fn a_disk_of_another_process() {
    let Some(_) = any_guest() else { return };
    let (image, theirs, socket) = (Image::new(), Image::new(), scratch("socket"));
    let mut command = Command::new("qemu-storage-daemon");
    let file = format!("driver=file,node-name=image,filename={}", theirs.0.display());
    let at = format!("addr.type=unix,addr.path={}", socket.display());
    let export = format!("type=vhost-user-blk,id=disk,node-name=image,writable=on,{at}");
    command.args(["--blockdev", &file, "--export", &export]);
    let Some(_peer) = Peer::start(command, vec![socket.clone()]) else { return };
    let disk = format!("vhost-user={}", socket.display());
    weather(8, &stormy(8, &image, "", &["--vcpus", "2", "--disk", &disk]));
}

/// The console is the storm's: what comes out of it is anything, and nobody hears that it is over.
#[test]
fn a_console_of_virtio() {
    let Some(_) = any_guest() else { return };
    let name = storm(6);
    let machine = vmm(["--memory", "64M", "--console", "stdio,virtio", "--workload", &name]);
    let machine = machine.args(["--workload", "exit=7"]).limit(Duration::from_secs(240 + items() / 100));
    let ended = if sanitized() { machine.args(["--sandbox=off"]) } else { machine }.run();
    ended.expect("exit", 7);
    assert_eq!(ended.value(&name, "devices"), 1);
    note("stood", &format!("1 storm of {} deeds, seed {}", items(), seed(6)));
}
