//! `vmm switch` as a program: its flags, its sockets, its signals, its reports; and real machines at its
//! ports: the built-in kernel's, Linux guests, QEMU's. What it does with frames is tested beside it, in
//! `devices`; machines that are a topology, in `topology.rs`.

mod harness;

use harness::host::{Host, any_guest, in_lab, skip};
use harness::initrd::Initrd;
use harness::kernels;
use harness::machine::{Running, binary, vmm};
use harness::shell::{shell, tell};
use harness::tools::Tools;
use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use vmm::boot::modules::Tree;

/// A folder of its own for each test, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let folder = std::env::temp_dir().join(format!("vmm-switch-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("make a folder");
        Scratch(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

fn switch(args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.arg("switch").args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn refused(args: &[&str], status: i32, words: &str) {
    let output = switch(args).output().expect("run vmm");
    let said = said(&output);
    let told = format!("{args:?} ended with {:?} and said: {said}", output.status);
    assert_eq!(output.status.code(), Some(status), "{told}");
    assert!(said.starts_with("vmm: ") && said.lines().count() == 1 && said.contains(words), "{told}");
}

/// What happens soon, or the test fails.
fn soon(what: &str, mut happens: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !happens() {
        assert!(Instant::now() < deadline, "{what}: it did not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([name, &child.id().to_string()]).status().expect("run kill");
    assert!(sent.success());
}

#[test]
fn flags_that_make_no_switch() {
    let scratch = Scratch::new("flags");
    let (a, b) = (scratch.path("a"), scratch.path("b"));
    let two = ["--port", &a, "--port", &b];
    for (more, words) in [
        (&["--busy-poll", "x"][..], "--busy-poll x: not a whole number of microseconds"),
        (&["--full", "waitt"], "--full waitt: not one of drop, wait; did you mean wait?"),
        (&["--age", "0"], "--age 0"),
        (&["--cpu", "0,0"], "--cpu 0: is given twice"),
        (&["--cpu", "65000"], "--cpu 65000: this host has no CPU 65000"),
        (&["--report", "yaml"], "--report yaml"),
        (&["--port", &a], "is given twice"),
    ] {
        refused(&[&two[..], more].concat(), 64, words);
    }
    refused(&[], 64, "--port: is needed");
    refused(&["--port", &a], 64, "--port: a switch has 2 to 64, not 1");
    let many: Vec<String> =
        (0..65).map(|number| format!("--port={}", scratch.path(&number.to_string()))).collect();
    refused(&many.iter().map(String::as_str).collect::<Vec<_>>(), 64, "a switch has 2 to 64, not 65");
    assert_eq!(fs::read_dir(&scratch.0).expect("list").count(), 0, "nothing was made");
}

#[test]
fn sockets_that_cannot_be() {
    let scratch = Scratch::new("sockets");
    let (a, taken) = (scratch.path("a"), scratch.path("taken"));
    let _other = UnixListener::bind(&taken).expect("bind");
    let file = scratch.path("file");
    fs::write(&file, "precious").expect("write");
    for (second, words) in [
        (taken.as_str(), "exists already"),
        (&file, "exists already"),
        (&"x".repeat(200), "longer than the 107 bytes"),
        ("/nonexistent/b", "No such file"),
        ("/proc/b", "--port /proc/b"),
    ] {
        refused(&["--port", &a, "--port", second], 66, words);
        assert!(!fs::exists(&a).expect("look"), "{second}: the first socket is gone again");
    }
    assert_eq!(fs::read_to_string(&file).expect("read"), "precious");
    UnixStream::connect(&taken).expect("the other's socket is as it was");
}

#[test]
fn it_runs_until_a_signal_and_says_what_it_did() {
    let scratch = Scratch::new("run");
    let [a, b, json] = ["a", "b", "report.json"].map(|name| scratch.path(name));
    let report = format!("json:{json}");
    let child =
        switch(&["--port", &a, "--port", &b, "--report", &report, "--report", "text", "--live", "0.001"])
            .spawn()
            .expect("run vmm");
    soon("listens", || UnixStream::connect(&b).is_ok());
    signal(&child, "-USR1");
    soon("a report on request", || fs::exists(&json).expect("look"));
    fs::remove_file(&json).expect("remove");
    // A peer that says nonsense ends its own connection, and is counted.
    let mut peer = UnixStream::connect(&a).expect("connect");
    std::io::Write::write_all(&mut peer, &[0xff; 64]).expect("write");
    soon("hangs up", || {
        std::io::Read::read(&mut peer, &mut [0]).is_ok_and(|count| count == 0) || peer.peer_addr().is_err()
    });
    signal(&child, "-TERM");
    let output = child.wait_with_output().expect("wait");
    assert_eq!(output.status.code(), Some(128 + 15), "{}", said(&output));
    let said = said(&output);
    assert!(said.contains(&format!("port       {a} · no peer · 1 peer so far")), "{said}");
    assert!(said.contains("packets/s from it"), "a live line: {said}");
    assert!(!fs::exists(&a).expect("look") && !fs::exists(&b).expect("look"), "its sockets are gone");
    let report: Value = serde_json::from_str(&fs::read_to_string(&json).expect("read")).expect("JSON");
    assert_eq!(report["schema"], "vmm.switch/1");
    assert_eq!(report["ports"][0]["errors"], 1);
    assert!(report["ports"][0]["last_error"].as_str().is_some_and(|error| error.contains("version")));
    assert!(report["workers"][0]["sleeps"].as_u64().is_some_and(|sleeps| sleeps > 0));
}

#[test]
fn it_ends_by_its_timeout() {
    let scratch = Scratch::new("timeout");
    let [a, b] = ["a", "b"].map(|name| scratch.path(name));
    let output = switch(&["--port", &a, "--port", &b, "--timeout", "0.1", "--report", "none"]).output();
    let output = output.expect("run vmm");
    assert_eq!((output.status.code(), said(&output)), (Some(83), String::new()));
}

/// A switch that runs.
struct Serving {
    scratch: Scratch,
    child: Child,
}

impl Serving {
    fn start(name: &str, ports: &[&str], more: &[&str]) -> Serving {
        let scratch = Scratch::new(name);
        let paths: Vec<String> = ports.iter().map(|port| scratch.path(port)).collect();
        let mut args: Vec<&str> = paths.iter().flat_map(|path| ["--port", path]).collect();
        let report = format!("json:{}", scratch.path("report"));
        args.extend(["--report", &report]);
        args.extend(more);
        let child = switch(&args).spawn().expect("run vmm");
        soon("listens", || paths.iter().all(|path| fs::exists(path).expect("look")));
        Serving { scratch, child }
    }

    /// As `--net` takes a port.
    fn port(&self, name: &str) -> String {
        format!("--net=vhost-user={}", self.scratch.path(name))
    }

    /// Ends it; its report.
    fn end(&mut self) -> Value {
        signal(&self.child, "-TERM");
        assert_eq!(self.child.wait().expect("wait").code(), Some(128 + 15));
        let report = fs::read_to_string(self.scratch.path("report")).expect("read");
        serde_json::from_str(&report).expect("JSON")
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        _ = (self.child.kill(), self.child.wait());
    }
}

/// What a port's queues of one kind (`send`, `receive`) have of this, added up.
fn sum(port: &Value, kind: &str, what: &str) -> u64 {
    let queues = port["queues"].as_array().expect("queues").iter().filter(|queue| queue["name"] == kind);
    queues.map(|queue| queue[what].as_u64().expect("a count")).sum()
}

/// Nothing was wrong, done in software, or dropped on the way to who was there.
fn clean(report: &Value) {
    for port in report["ports"].as_array().expect("ports") {
        assert_eq!(port["errors"], 0, "{port:#}");
        for queue in port["queues"].as_array().expect("queues") {
            let drops = queue["drops"].as_object().expect("drops").iter();
            let drops = drops.filter(|(why, _)| *why != "unknown_port").map(|(_, count)| count);
            assert!(
                drops.chain([&queue["checksums"], &queue["segmented"]]).all(|count| *count == 0),
                "{queue:#}"
            );
        }
    }
}

#[test]
fn a_machine_restarts_and_the_others_do_not_notice() {
    if any_guest().is_none() {
        return;
    }
    let mut switch = Serving::start("restart", &["a", "b", "c"], &["--full", "wait"]);
    let machine =
        |port: &str, workload: &str| vmm(["--memory", "128M", "--workload", workload, &switch.port(port)]);
    let reflect = "rr,address=10.0.0.1,items=100000000";
    // For longer than the other takes to come twice.
    let seconds = if in_lab() { 15 } else { 3 };
    let long = &format!("rr,role=send,address=10.0.0.3,peer=10.0.0.1,seconds={seconds},items=100000000");
    let short = "rr,role=send,address=10.0.0.2,peer=10.0.0.1,items=20";
    let reflector = machine("a", reflect).spawn();
    let stays = machine("c", long).spawn();
    for _ in 0..2 {
        let ended = machine("b", short).run();
        ended.expect("exit", 0);
        assert_eq!((ended.value(short, "ops"), ended.value(short, "lost")), (20, 0));
    }
    let (stayed, reflected) = (stays.end(), reflector.end());
    stayed.expect("exit", 0);
    reflected.expect("exit", 0);
    assert_eq!(stayed.value(long, "lost"), 0);
    assert_eq!(reflected.value(reflect, "ops"), 40 + stayed.value(long, "ops"));
    let report = switch.end();
    let connections: Vec<u64> = report["ports"]
        .as_array()
        .expect("ports")
        .iter()
        .filter_map(|port| port["connections"].as_u64())
        .collect();
    assert_eq!(connections, [1, 2, 1]);
    // Who left was sent nothing more, and the sockets' own words are no errors.
    assert!(report["ports"].as_array().expect("ports").iter().all(|port| port["errors"] == 0), "{report:#}");
}

#[test]
fn two_linux_guests_stream_through_it() {
    let Some(guest) = shell() else { return };
    let Some(tools) = Tools::new(&["iperf3"]) else { return };
    let mut switch = Serving::start("iperf3", &["a", "b"], &["--full", "wait"]);
    let start = |port: &str, commands: &str| -> Running {
        let mut machine = guest.clone().args(tools.disk()).args([switch.port(port)]).spawn();
        let mounts = "mkdir -p /mnt; mount -o ro /dev/vda /mnt; mount -t tmpfs tmp /mnt/tmp";
        tell(&mut machine, &format!("{mounts}; mount -t devtmpfs dev /mnt/dev; {commands}"));
        machine
    };
    let server = "chroot /mnt /bin/iperf3 -s -1 >/dev/null";
    let server = start("a", &format!("ifconfig eth0 10.9.0.1 up; {server} && {server} && exit 9"));
    // The other side may still be starting, and needs a moment between the two.
    let client = "chroot /mnt /bin/iperf3 -c 10.9.0.1 -n 8M --connect-timeout 3000";
    let again = |more: &str| format!("for try in 1 2 3 4 5 6; do {client} {more} && break; sleep 1; done");
    let client = start("b", &format!("ifconfig eth0 10.9.0.2 up; {}; {}; exit 9", again(""), again("-R")));
    let (client, server) = (client.end(), server.end());
    client.expect("exit", 9);
    server.expect("exit", 9);
    let report = switch.end();
    let ports = report["ports"].as_array().expect("ports");
    for (from, to) in [(&ports[0], &ports[1]), (&ports[1], &ports[0])] {
        let (packets, bytes) = (sum(from, "send", "packets"), sum(from, "send", "bytes"));
        // iperf3 ends when it has written its 8 MiB, and throws away what its socket still holds then.
        assert!(bytes > 4 << 20, "{bytes} bytes: {report:#}");
        // Both took the offloads, so that frames are longer than any wire's, and nothing is done to them.
        assert!(bytes / packets > 1514, "{bytes} bytes in {packets} packets");
        // What the first said before the second was there went nowhere.
        let lost: u64 = from["queues"]
            .as_array()
            .expect("queues")
            .iter()
            .filter_map(|queue| queue["drops"]["unknown_port"].as_u64())
            .sum();
        assert_eq!(sum(to, "receive", "packets") + lost, packets, "{report:#}");
    }
    clean(&report);
}

/// A Linux guest of QEMU's with this workload at a port; `None`, after saying so, where it can't run.
fn qemu(socket: &str, workload: &str) -> Option<(Child, Initrd)> {
    let hardware = any_guest()? == Host::Hardware;
    let kernel = kernels::cloud()?;
    let modules = Tree::open(&kernel.modules).and_then(|tree| tree.resolve(&["virtio_pci", "virtio_net"]));
    let modules = modules.expect("the modules");
    let numbered = modules.iter().zip(100..).map(|(module, number)| (format!("{number}.ko"), &*module.path));
    let vmm = binary();
    let files: Vec<_> = numbered.chain([("vmm".to_owned(), &*vmm)]).collect();
    let script = format!(
        "for module in /*.ko; do /bin/busybox insmod $module; done; /bin/busybox ifconfig eth0 10.0.0.2 up; \
         /vmm workload {workload}; /bin/busybox reboot -f"
    );
    let initrd = Initrd::with(&script, &files)?;
    // Without KVM, QEMU 7.2 dies of vhost and MSI-X together, whoever the backend is.
    let (accelerator, card) = match hardware {
        true => (["-accel", "kvm", "-cpu", "host"], "virtio-net-pci,netdev=net"),
        false => (["-accel", "tcg", "-cpu", "max"], "virtio-net-pci,netdev=net,vectors=0"),
    };
    let child = Command::new("qemu-system-x86_64")
        .args(["-M", "q35", "-m", "256", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args(accelerator)
        .args([
            "-object",
            "memory-backend-memfd,id=memory,size=256M,share=on",
            "-machine",
            "memory-backend=memory",
        ])
        .args(["-serial", "stdio"])
        .arg("-chardev")
        .arg(format!("socket,id=port,path={socket}"))
        .args(["-netdev", "vhost-user,id=net,chardev=port", "-device", card])
        .arg("-kernel")
        .arg(&kernel.bzimage)
        .arg("-initrd")
        .arg(initrd.path())
        .args(["-append", "console=ttyS0 quiet panic=-1 reboot=t"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    if child.is_err() {
        skip("no qemu-system-x86_64: run resources/install");
    }
    Some((child.ok()?, initrd))
}

#[test]
fn qemu_is_a_peer_like_any_other() {
    let mut switch = Serving::start("qemu", &["a", "b"], &[]);
    let asks = "rr,role=send,peer=10.0.0.1,size=700,items=50";
    let answers = "rr,address=10.0.0.1,items=50";
    let Some((mut qemu, _initrd)) = qemu(&switch.scratch.path("b"), asks) else { return };
    let machine = vmm(["--memory", "128M", "--workload", answers, &switch.port("a")]);
    let ended = machine.limit(Duration::from_secs(100)).run();
    // It takes its last answer before it ends; a guest that hangs does not.
    let deadline = Instant::now() + Duration::from_secs(10);
    while qemu.try_wait().expect("wait").is_none() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    _ = qemu.kill();
    let said = qemu.wait_with_output().expect("wait").stdout;
    let said = String::from_utf8_lossy(&said);
    ended.expect("exit", 0);
    assert_eq!((ended.value(answers, "ops"), ended.value(answers, "bytes")), (50, 50 * 700), "{said}");
    let report = switch.end();
    let port = &report["ports"][1];
    assert_eq!(port["errors"], 0, "{port:#}");
    assert!(sum(port, "send", "packets") >= 50 && sum(port, "receive", "packets") >= 50, "{port:#}");
    // It takes what is offered: offloads, and buffers that are merged.
    let features = port["features"].as_str().and_then(|text| u64::from_str_radix(&text[2..], 16).ok());
    assert!(features.is_some_and(|features| features & 1 << 15 != 0 && features & 1 != 0), "{port:#}");
}
