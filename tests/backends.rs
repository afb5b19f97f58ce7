//! Who serves a device's queues: the same guest over a worker of the monitor, the kernel's vhost and
//! another process gets the same work done, and the report says who did it.

mod harness;

use std::fs::{self, File};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use harness::host::{any_guest, in_lab, skip};
use harness::machine::{Ended, Machine, Running, scratch, vmm};
use harness::shell::{shell, tell};
use harness::tap::Interface;
use serde_json::Value;

#[test]
fn what_is_no_peer_is_said_before_the_boot() {
    let socket = scratch("socket");
    let disk = |socket: &Path| format!("--disk=vhost-user={},queues=2", socket.display());
    let net = format!("--net=vhost-user={}", socket.display());
    for device in [disk(&socket), net.clone()] {
        vmm([device])
            .run()
            .expect_refusal(66, "No such file or directory (os error 2); start its backend first");
    }
    let listener = UnixListener::bind(&socket).expect("listen");
    let closes = std::thread::spawn(move || listener.accept().map(drop));
    vmm([net.clone()]).run().expect_refusal(66, "GetFeatures: the peer closed the connection");
    closes.join().expect("no panic").expect("a connection");
    // Nobody listens any more.
    vmm([net.clone()]).run().expect_refusal(66, "Connection refused");
    vmm([net.as_str(), "--irqfd=off"]).run().expect_refusal(64, "by irqfd alone");
    vmm(["--pin=net0@0", &net]).run().expect_refusal(64, "names no worker thread");
    let _ = fs::remove_file(&socket);
}

fn device<'a>(ended: &'a Ended, data_path: &str) -> &'a Value {
    let device = &ended.report["devices"][0];
    assert_eq!(device["data_path"], data_path, "{}", ended.stderr);
    device
}

/// What the queues of a device have of this, added up; `None` where one has `null`.
fn sum(device: &Value, what: &str) -> Option<u64> {
    device["queues"].as_array().expect("a list").iter().map(|queue| queue[what].as_u64()).sum()
}

/// QEMU's storage daemon, which serves an image as a vhost-user disk.
struct Daemon {
    image: PathBuf,
    socket: PathBuf,
    child: Child,
}

impl Daemon {
    /// `None`, after saying so, where it isn't installed.
    fn start(image: &Path, socket: &Path) -> Option<Daemon> {
        let _ = fs::remove_file(socket);
        let mut command = Command::new("qemu-storage-daemon");
        command
            .arg("--blockdev")
            .arg(format!("driver=file,node-name=image,filename={}", image.display()))
            .arg("--export")
            .arg(format!(
                "type=vhost-user-blk,id=disk,node-name=image,writable=on,num-queues=2,addr.type=unix,addr.path={}",
                socket.display()
            ))
            .stdin(Stdio::null());
        let Ok(child) = command.spawn() else {
            skip("no qemu-storage-daemon: apt-get install qemu-system-common");
            return None;
        };
        let mut daemon = Daemon { image: image.into(), socket: socket.into(), child };
        while !socket.exists() {
            assert!(daemon.child.try_wait().expect("wait for it").is_none(), "qemu-storage-daemon has ended");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Some(daemon)
    }

    /// It answers nobody any more, and is still there.
    fn stop(&self) {
        let sent = Command::new("kill").args(["-STOP", &self.child.id().to_string()]).status();
        assert!(sent.expect("run kill").success());
    }

    /// By a signal that it can't see coming; its socket is left behind.
    fn kill(&mut self) {
        self.child.kill().expect("kill it");
        self.child.wait().expect("wait for it");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.socket);
        let _ = fs::remove_file(&self.image);
    }
}

/// Writes a tree of random data, has `meanwhile` happen to the disk, reads all of it back; the checksums
/// before and after are on the console.
fn write_and_read(mut machine: Running, meanwhile: impl FnOnce()) -> Ended {
    tell(
        &mut machine,
        "dd if=/dev/urandom of=/tmp/data bs=64k count=64 status=none; md5sum </tmp/data; echo wri''ting; \
         for i in 0 64 128 192; do dd if=/tmp/data of=/dev/vda bs=16k seek=$((i * 4)) conv=fsync status=none; done; \
         echo wri''tten; echo 3 >/proc/sys/vm/drop_caches; \
         for i in 0 64 128 192; do dd if=/dev/vda bs=64k skip=$i count=64 status=none | md5sum; done; exit 9",
    );
    machine.until("writing");
    meanwhile();
    let ended = machine.end();
    ended.expect("exit", 9);
    let sums: Vec<&str> = ended.stdout.lines().filter_map(|line| line.trim().strip_suffix("  -")).collect();
    assert_eq!(sums.len(), 5, "{}", ended.stdout);
    assert!(sums.iter().all(|sum| *sum == sums[0]), "{sums:?}");
    ended
}

#[test]
fn the_built_in_kernel_does_the_same_over_either() {
    let Some(_) = any_guest() else { return };
    let (image, socket) = (scratch("disk"), scratch("socket"));
    File::create(&image).expect("make a file").set_len(16 << 20).expect("make it longer");
    let work = "blk,items=300,depth=16,rw=mixed";
    let run = |disk: String, data_path: &str| {
        let ended = vmm(["--memory", "128M", "--workload", work, "--disk", &disk]).run();
        ended.expect("exit", 0);
        let record = &ended.report["records"][0];
        let done = (&record["outcome"], &record["ops"], &record["values"]["failed"]);
        assert_eq!(done, (&"ok".into(), &300.into(), &0.into()), "{record}");
        device(&ended, data_path).clone()
    };
    let here = run(format!("path={}", image.display()), "userspace");
    assert_eq!(sum(&here, "chains"), Some(300));
    let Some(_daemon) = Daemon::start(&image, &socket) else { return };
    let there = run(format!("vhost-user={}", socket.display()), "vhost-user");
    assert_eq!((sum(&there, "chains"), sum(&there, "kicks_seen")), (None, Some(0)));
}

#[test]
fn a_server_that_stops_answering_keeps_no_machine_from_its_end() {
    let Some(_) = any_guest() else { return };
    let (image, socket) = (scratch("disk"), scratch("socket"));
    File::create(&image).expect("make a file").set_len(4 << 20).expect("make it longer");
    let Some(daemon) = Daemon::start(&image, &socket) else { return };
    let disk = format!("--disk=vhost-user={}", socket.display());
    let mut machine = vmm(["--memory", "64M", "--workload", "journal,items=1000000", &disk]).spawn();
    machine.until("journal: kept ");
    daemon.stop();
    machine.signal("TERM");
    let ended = machine.end();
    ended.expect("signal", 143);
    device(&ended, "vhost-user");
    // It was not waited for until patience ran out.
    assert!(!ended.stderr.contains("did not answer"), "{}", ended.stderr);
}

#[test]
fn a_disk_whose_server_dies_in_the_middle_loses_nothing() {
    let Some(machine) = shell() else { return };
    let image = scratch("disk");
    File::create(&image).expect("make a file").set_len(16 << 20).expect("make it longer");
    let here = machine.clone().args(["--disk".into(), format!("path={}", image.display())]);
    let ended = write_and_read(here.spawn(), || ());
    let disk = device(&ended, "userspace");
    assert!(sum(disk, "kicks") > Some(0) && sum(disk, "kicks") == sum(disk, "kicks_seen"), "{disk}");
    assert!(sum(disk, "chains") > Some(0) && disk["threads"][0]["cpu_us"].as_u64() > Some(0), "{disk}");
    assert_eq!(ended.report["config"]["shared_memory"], false);

    let socket = scratch("socket");
    let Some(mut daemon) = Daemon::start(&image, &socket) else { return };
    let there = machine.args(["--disk".into(), format!("vhost-user={},queues=2", socket.display())]);
    let mut next = None;
    let ended = write_and_read(there.spawn(), || {
        daemon.kill();
        next = Daemon::start(&image, &socket);
    });
    let disk = device(&ended, "vhost-user");
    assert_eq!((sum(disk, "kicks_seen"), sum(disk, "kicks"), sum(disk, "chains")), (Some(0), None, None));
    assert_eq!(ended.report["config"]["shared_memory"], true);
    for line in ["its requests wait until it is back", "the peer is back"] {
        assert_eq!(ended.stderr.matches(line).count(), 1, "{}", ended.stderr);
    }
}

#[test]
fn a_card_that_the_kernel_serves_is_out_of_this_process_sight() {
    let Some(machine) = shell() else { return };
    if !in_lab() {
        return skip("/dev/vhost-net is in the lab");
    }
    let ping = |machine: Machine, tap: &Interface, keys: &str| {
        let mut machine = machine.args(["--net".into(), format!("tap={}{keys}", tap.name)]).spawn();
        let (host, guest) = (tap.at(1), tap.at(2));
        let large = format!("ping -A -q -c 20 -s 9000 {host}");
        tell(
            &mut machine,
            &format!("ifconfig eth0 {guest} up; ping -A -q -c 50 {host} && {large} && exit 9"),
        );
        let ended = machine.end();
        ended.expect("exit", 9);
        for packets in ["50 packets received", "20 packets received"] {
            assert!(ended.stdout.contains(packets), "{}", ended.stdout);
        }
        ended
    };
    let tap = |many| {
        let tap = Interface::tap(many).expect("a tap, in the lab");
        tap.address().expect("an address for it");
        tap
    };
    let one = tap(false);
    let ended = ping(machine.clone(), &one, "");
    let card = device(&ended, "userspace");
    assert!(sum(card, "kicks") > Some(0) && sum(card, "kicks") == sum(card, "kicks_seen"), "{card}");
    assert_eq!(card["threads"][0]["name"], "net0");

    let pinned = machine.clone().args(["--vhost", "--pin", "net0@1", "--busy-poll", "50"]);
    let ended = ping(pinned, &one, "");
    let card = device(&ended, "vhost-kernel");
    assert!(sum(card, "kicks") > Some(0), "{card}");
    let none = (sum(card, "kicks_seen"), sum(card, "kick_exits"), sum(card, "chains"));
    assert_eq!(none, (Some(0), Some(0), None), "{card}");
    let threads = card["threads"].as_array().expect("a list");
    assert_eq!(threads.len(), 2, "{card}");
    assert!(by_kernel(&threads[0]) && threads[0]["cpu_us"].as_u64() > Some(0), "{card}");
    assert_eq!(threads[1]["name"], "net0sent", "{card}");
    let knobs = ended.report["knobs"].as_array().expect("a list");
    let got = |flag: &str| knobs.iter().find(|knob| knob["flag"] == flag).map(|knob| &knob["got"]);
    assert_eq!(got("pin"), Some(&"net0 on 1".into()));
    assert_eq!(got("vhost"), Some(&"1 of 1 network cards served by the kernel".into()));

    let ended = ping(machine.args(["--vcpus", "2"]), &tap(true), ",queues=2,vhost");
    let card = device(&ended, "vhost-kernel");
    let threads = card["threads"].as_array().expect("a list");
    let count = threads.iter().filter(|thread| by_kernel(thread)).count();
    assert_eq!(count, 2, "a thread for each pair: {card}");
    // The control queue is served here.
    let queues = card["queues"].as_array().expect("a list");
    assert_eq!(queues.len(), 5);
    assert!(queues[4]["kicks_seen"].as_u64() > Some(0) && queues[4]["chains"].as_u64() > Some(0), "{card}");
    assert!(queues[..4].iter().all(|queue| queue["kicks_seen"] == 0), "{card}");
}

#[test]
fn vhost_looks_for_the_next_message_where_each_is_answered() {
    let Some(machine) = shell() else { return };
    if !in_lab() {
        return skip("/dev/vhost-net is in the lab");
    }
    let tap = Interface::tap(false).expect("a tap, in the lab");
    tap.address().expect("an address for it");
    let (host, guest) = (tap.at(1), tap.at(2));
    let looked = |knobs: &[&str], command: &str| {
        let net = format!("--net=tap={}", tap.name);
        let mut machine = machine.clone().args([&net, "--vhost"]).args(knobs).spawn();
        tell(&mut machine, &format!("ifconfig eth0 {guest} up; {command} {host} && exit 9"));
        let ended = machine.end();
        ended.expect("exit", 9);
        sum(device(&ended, "vhost-kernel"), "looked_us").expect("vhost's own")
    };
    // The next as soon as the last is answered; ten a second; not at all.
    assert!(looked(&[], "ping -A -q -c 2000") > 0);
    assert_eq!(looked(&[], "ping -q -i 0.1 -c 20"), 0);
    assert_eq!(looked(&["--busy-poll=0"], "ping -A -q -c 500"), 0);
}

fn by_kernel(thread: &Value) -> bool {
    thread["name"].as_str().is_some_and(|name| name.starts_with("vhost-"))
}
