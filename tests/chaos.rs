//! A guest that attacks: storms of all that it can do to its machine, and afterwards the machine is as it
//! was. No crash, no hang; memory, threads and descriptors of the monitor as before; the report adds up; the
//! devices serve who keeps to their rules; and the machine ends on command.
//!
//! With VMM a monitor under AddressSanitizer and ASAN_OPTIONS set, they run against that.

mod harness;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use harness::host::{any_guest, in_lab, note, skip};
use harness::machine::{Ended, Machine, Running, scratch, vmm};
use harness::tap::Interface;

/// Deeds of a storm, for CI; `CHAOS_ITEMS` asks for more.
fn items() -> u64 {
    let asked = std::env::var("CHAOS_ITEMS").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(if in_lab() { 2000 } else { 4000 })
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

/// A machine that storms twice, uses its disk as one should, and then waits to be ended.
fn stormy(seed: u64, image: &Image, disk: &str, more: &[&str]) -> Machine {
    let storm = |seed| format!("chaos,seed={seed},items={}", items());
    let limit = Duration::from_secs(if in_lab() || sanitized() { 240 } else { 60 } + items() / 50);
    let machine = vmm(["--memory", "64M", "--disk", &format!("path={}{disk}", image.0.display()), "--rng"])
        .args(["--workload", &storm(seed), "--workload", "jitter,period=100000,items=5"])
        .args(["--workload", &storm(seed + 1000), "--workload", "blk,rw=mixed,items=50"])
        .args(["--workload", "jitter,period=100000,items=36000"])
        .args(more)
        .limit(limit);
    if sanitized() { machine.args(["--sandbox=off"]) } else { machine }
}

/// What the monitor holds that is not its guest's.
#[derive(Debug)]
struct Held {
    kilobytes: u64,
    threads: usize,
    descriptors: usize,
}

/// As /proc has it.
fn held(machine: &Running) -> Held {
    let of = |name: &str| format!("/proc/{}/{name}", machine.pid());
    let many = |name: &str| fs::read_dir(of(name)).expect("a process that runs").count();
    let maps = fs::read_to_string(of("smaps")).expect("a process that runs");
    let (mut kilobytes, mut guest) = (0, false);
    for line in maps.lines() {
        let number = |name: &str| -> Option<u64> {
            line.strip_prefix(name)?.trim().trim_end_matches(" kB").parse().ok()
        };
        // The one mapping of this size.
        guest = number("Size:").map_or(guest, |size| size == 64 << 10);
        kilobytes += number("Rss:").filter(|_| !guest).unwrap_or(0);
    }
    Held { kilobytes, threads: many("task"), descriptors: many("fd") }
}

/// Waits for the end of the `nth` storm, and for that of its devices' threads. `None`: the guest is no more.
fn after(machine: &mut Running, nth: usize) -> Option<Held> {
    machine.shows("the storm is over", nth).then(|| {
        std::thread::sleep(Duration::from_millis(200));
        held(machine)
    })
}

/// A guest with a ring 0 of its own may bring itself down, and the lab's processor now and then brings one
/// down that did not: then the machine says so and ends, as it must, and another one storms.
const GUESTS: usize = 4;

/// Lets it storm, and sees that nothing is left of that.
fn weather(seed: u64, machine: &Machine) -> Ended {
    for _ in 0..GUESTS {
        let mut machine = machine.spawn();
        if let (Some(first), Some(second)) = (after(&mut machine, 1), after(&mut machine, 2)) {
            machine.signal("TERM");
            return stood(seed, (first, second), machine.end());
        }
        let ended = machine.end();
        assert!(in_lab(), "{}", ended.stderr);
        ended.expect("triple-fault", 81);
        note("again", "the guest shut its own CPU down");
    }
    panic!("{GUESTS} guests brought themselves down");
}

/// What must be true of a machine that two storms went over.
fn stood(seed: u64, (first, second): (Held, Held), ended: Ended) -> Ended {
    ended.expect("signal", 128 + 15);
    assert_eq!(
        (first.threads, first.descriptors),
        (second.threads, second.descriptors),
        "seed {seed}: {first:?}, {second:?}"
    );
    // Rows of the ledger that the second storm was the first to fill.
    let grown = second.kilobytes.saturating_sub(first.kilobytes);
    assert!(sanitized() || grown < 1024 && second.kilobytes < 16 << 10, "seed {seed}: {first:?}, {second:?}");
    for seed in [seed, seed + 1000] {
        let name = format!("chaos,seed={seed},items={}", items());
        assert!(ended.value(&name, "ops") >= items(), "{}", ended.stderr);
        assert_eq!(ended.value(&name, "seed"), seed);
    }
    assert_eq!(ended.value("blk,rw=mixed,items=50", "failed"), 0, "{}", ended.stderr);
    adds_up(&ended);
    ended
}

/// Rows that do not overlap, and what is not explained, are the total.
fn adds_up(ended: &Ended) {
    let exits = &ended.report["exits"];
    let total = exits["total"].as_u64().expect("a total");
    let rows = exits["userspace"].as_array().expect("rows");
    let returns: u64 = rows.iter().map(|row| row["count"].as_u64().expect("a count")).sum();
    let unexplained = exits["unexplained"].as_u64().expect("what is not explained");
    assert!(returns > items() / 2 && unexplained <= total, "{returns} returns, {unexplained} of {total}");
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
    assert!(ended.value(&format!("chaos,seed=2,items={}", items()), "cpus") > 0);
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

/// The console is the storm's: what comes out of it is anything, and nobody hears that it is over.
#[test]
fn a_console_of_virtio() {
    let Some(_) = any_guest() else { return };
    let name = format!("chaos,seed=6,items={}", items());
    let machine = vmm(["--memory", "64M", "--console", "stdio,virtio", "--workload", &name]);
    let machine = machine.args(["--workload", "exit=7"]).limit(Duration::from_secs(240));
    let ended = if sanitized() { machine.args(["--sandbox=off"]) } else { machine }.run();
    ended.expect("exit", 7);
    assert_eq!(ended.value(&name, "devices"), 1);
}
