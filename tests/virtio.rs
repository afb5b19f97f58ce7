//! The small virtio devices, in a stock Linux: a console, random numbers, sockets to the host.

mod harness;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::host::{in_lab, linux_guest, skip};
use harness::kernels;
use harness::machine::{Ended, Machine, vmm};
use serde_json::Value;

/// Debian's cloud kernel without an image.
fn linux() -> Option<Machine> {
    linux_guest()?;
    let kernel = kernels::cloud()?;
    let machine = vmm(["--kernel".into(), kernel.bzimage.into_os_string()]);
    let machine = machine.args(["--modules".into(), kernel.modules.into_os_string()]);
    Some(machine.args(["--cmdline", "quiet"]))
}

fn device<'a>(ended: &'a Ended, name: &str) -> &'a Value {
    let devices = ended.report["devices"].as_array().expect("a list");
    devices.iter().find(|device| device["name"] == name).expect(name)
}

#[test]
fn what_cannot_be_is_said_before_the_boot() {
    vmm(["--console", "stdio,virtio"]).run().expect_refusal(64, "the built-in kernel has no driver for it");
    vmm(["--console", "virtoi"]).run().expect_refusal(64, "not one of stdio, file=PATH, none");
    vmm(["--vsock", "cid=2"]).run().expect_refusal(64, "cid=2: not a number from 3 to");
    vmm(["--vsock", "cid=3", "--irqfd=off"]).run().expect_refusal(64, "by irqfd alone");
    if !Path::new("/dev/vhost-vsock").exists() {
        vmm(["--vsock", "cid=3"]).run().expect_refusal(66, "modprobe vhost_vsock");
    }
}

#[test]
fn a_virtio_console_costs_no_exits_to_userspace_and_random_numbers_are_the_hosts() {
    for transport in ["pci", "mmio"] {
        let Some(machine) = linux() else { return };
        let machine = machine.args(["--console", "stdio,virtio", "--rng", "--transport", transport]);
        let mut machine = machine.args(["--workload", "shell"]).spawn();
        machine.until("/ # ");
        let mut stdin = machine.stdin.take().expect("piped");
        let script = "tty; cat /proc/consoles; cat /sys/class/misc/hw_random/rng_current; \
                      dd if=/dev/hwrng bs=64 count=4 | wc -c; exit 5\n";
        stdin.write_all(script.as_bytes()).expect("write to the console");
        let ended = machine.end();
        ended.expect("exit", 5);
        for words in ["/dev/hvc0", "hvc0                 -W- (EC", "virtio_rng.0", "\r\n256"] {
            assert!(ended.stdout.contains(words), "no {words:?} in {}", ended.stdout);
        }
        let exits = ended.report["exits"]["userspace"].as_array().expect("a list");
        let serial: Vec<_> = exits
            .iter()
            .filter(|row| row["target"].as_str().is_some_and(|target| target.starts_with("serial")))
            .collect();
        assert!(serial.is_empty(), "{serial:?}");
        let console = &device(&ended, "console.0")["queues"][1];
        assert_eq!((&console["kick_exits"], &console["errors"]), (&0.into(), &0.into()));
        // A kick for several bytes, however Linux cuts its lines.
        assert!(console["bytes"].as_u64() > console["kicks"].as_u64().map(|kicks| 2 * kicks), "{console}");
        assert!(console["bytes"].as_u64() > Some(300), "{console}");
        let random = &device(&ended, "rng.0")["operations"][0];
        assert!(random["bytes"].as_u64() >= Some(256) && random["errors"] == 0, "{random}");
    }
}

#[test]
fn the_host_calls_an_agent_in_the_guest() {
    let Some(machine) = linux() else { return };
    if !in_lab() && !Path::new("/dev/vhost-vsock").exists() {
        return skip("no /dev/vhost-vsock: modprobe vhost_vsock");
    }
    let machine = machine.args(["--vsock", "cid=77", "--workload", "agent,port=4242"]).spawn();
    // Until the agent listens, callers are turned away.
    let began = Instant::now();
    let heard = loop {
        let socat = Command::new("socat")
            .args(["-t30", "-", "VSOCK-CONNECT:77:4242"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut socat) = socat else { return skip("no socat: apt-get install socat") };
        // It may have been turned away before it has read this.
        let _ = socat.stdin.take().expect("piped").write_all(b"are you there?");
        let output = socat.wait_with_output().expect("run socat");
        if output.status.success() || began.elapsed() > Duration::from_secs(90) {
            break output;
        }
        std::thread::sleep(Duration::from_millis(300));
    };
    assert_eq!(String::from_utf8_lossy(&heard.stdout), "are you there?", "{heard:?}");
    let ended = machine.end();
    ended.expect("exit", 0);
    let phases = ended.report["phases"].as_array().expect("a list");
    assert!(phases.iter().any(|phase| phase["name"] == "agent"), "{phases:?}");
    let vsock = device(&ended, "vsock.0");
    assert_eq!((&vsock["data_path"], &vsock["faults"]), (&"vhost-kernel".into(), &0.into()));
    assert!(vsock["queues"][1]["kicks"].as_u64() > Some(0), "{vsock}");
}
