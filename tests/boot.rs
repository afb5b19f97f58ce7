//! Stock kernels come up, in every format, with every number of vCPUs, on memory on both sides of
//! the PCI hole; nothing is there that is not there, and no kernel complains.

mod harness;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use harness::host::{in_lab, linux_guest, skip};
use harness::initrd::Initrd;
use harness::kernels;
use harness::machine::{Ended, vmm};

/// What the guest tells of itself, `key=value` a line, before it powers off.
const TELL: &str = r#"
busybox() { /bin/busybox "$@"; }
busybox mount -t sysfs sys /sys
echo "cpus=$(busybox nproc)"
echo "memory=$(busybox awk '/MemTotal/ { print $2 }' /proc/meminfo)"
echo "clock=$(busybox cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
echo "x2apic=$(busybox grep -c x2apic /proc/cpuinfo)"
echo "deadline=$(busybox grep -c tsc_deadline_timer /proc/cpuinfo)"
echo "cores=$(busybox grep 'cpu cores' /proc/cpuinfo | busybox sort -u | busybox sed 's/.*: //')"
echo "acpi=$(busybox dmesg | busybox grep -c 'ACPI: Interpreter enabled')"
busybox poweroff -f
"#;

/// `console=` is for a kernel that is entered by PVH: it need not be a Linux, so nothing is added.
fn boot(kernel: &Path, vcpus: u32, memory: &str, initrd: &Initrd) -> Ended {
    let vcpus = vcpus.to_string();
    vmm(["--kernel".into(), kernel.as_os_str().to_owned()])
        .args(["--initrd".into(), initrd.path().as_os_str().to_owned()])
        .args(["--cmdline", "console=ttyS0 quiet", "--vcpus", vcpus.as_str(), "--memory", memory])
        .run()
}

/// The value of `key` in what the guest told.
#[track_caller]
fn told<'a>(ended: &'a Ended, key: &str) -> &'a str {
    let value = ended.stdout.lines().find_map(|line| line.trim_end().strip_prefix(key)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("no {key} in:\n{}\n{}", ended.stdout, ended.stderr))
}

/// Every CPU is up, all the memory is there, the clocks are those of a KVM guest.
#[track_caller]
fn comes_up(kernel: &Path, vcpus: u32, memory: &str, mib: u64) {
    let Some(initrd) = Initrd::script(TELL) else { return };
    let ended = boot(kernel, vcpus, memory, &initrd);
    ended.expect("shutdown", 0);
    let number = |key| told(&ended, key).parse::<u64>().expect("a number");
    assert_eq!(number("cpus"), u64::from(vcpus));
    assert_eq!(number("x2apic"), u64::from(vcpus));
    assert_eq!(number("deadline"), u64::from(vcpus));
    assert_eq!(number("cores"), u64::from(vcpus), "one package of as many cores");
    assert_eq!(told(&ended, "clock"), "kvm-clock");
    assert_eq!(number("acpi"), 1);
    // A kernel keeps some for itself: its image, and a struct page for each 4 KiB.
    let seen = number("memory") >> 10;
    assert!(seen < mib && seen > mib * 9 / 10 - 64, "{seen} of {mib} MiB");
}

#[test]
fn bzimage_1_vcpu_128m() {
    let Some(kernel) = linux_guest().and_then(|_| kernels::cloud()) else { return };
    comes_up(&kernel.bzimage, 1, "128M", 128);
}

#[test]
fn bzimage_with_every_driver_2_vcpus_512m() {
    let Some(kernel) = linux_guest().and_then(|_| kernels::amd64()) else { return };
    comes_up(&kernel.bzimage, 2, "512M", 512);
}

#[test]
fn vmlinux_with_every_driver_8_vcpus_1g() {
    let Some(kernel) = linux_guest().and_then(|_| kernels::amd64()) else { return };
    comes_up(&kernel.vmlinux, 8, "1G", 1024);
}

#[test]
fn vmlinux_4_vcpus_on_both_sides_of_the_pci_hole() {
    let Some(kernel) = linux_guest().and_then(|_| kernels::cloud()) else { return };
    comes_up(&kernel.vmlinux, 4, "5G", 5 << 10);
}

#[test]
fn pvh_2_vcpus_256m() {
    let Some(kernel) = linux_guest().and_then(|_| kernels::cloud()) else { return };
    if !kernel.pvh.exists() {
        return skip("no kernel with only a PVH note: run resources/lab/kernels --pvh");
    }
    comes_up(&kernel.pvh, 2, "256M", 256);
}

#[test]
fn linux_reboots() {
    let Some(kernel) = linux_guest().and_then(|_| kernels::cloud()) else { return };
    let Some(initrd) = Initrd::script("/bin/busybox reboot -f") else { return };
    boot(&kernel.vmlinux, 1, "256M", &initrd).expect("reset", 0);
}

/// A warning or an error is one that this kernel prints here and not under QEMU's microvm.
#[test]
fn no_kernel_complains_more_than_under_qemu() {
    let Some(kernel) = linux_guest().and_then(|_| kernels::cloud()) else { return };
    let script =
        "/bin/busybox dmesg -r | /bin/busybox sed -n 's/^<[0-4]>/told: /p'; /bin/busybox poweroff -f";
    let Some(initrd) = Initrd::script(&format!("{script}; /bin/busybox reboot -f")) else { return };
    let Some(theirs) = qemu(&kernel.vmlinux, initrd.path()) else {
        return skip("no qemu-system-x86_64 to compare with: run resources/install");
    };
    let ended = boot(&kernel.vmlinux, 1, "256M", &initrd);
    ended.expect("shutdown", 0);
    assert!(!theirs.is_empty(), "QEMU's guest told nothing, so nothing is compared");
    let more: Vec<_> = complaints(&ended.stdout).difference(&theirs).cloned().collect();
    assert!(more.is_empty(), "{more:#?}");
}

/// What is left of each complaint when its time and its numbers are gone.
fn complaints(console: &str) -> BTreeSet<String> {
    let line = |line: &str| {
        let words = line.trim_end().strip_prefix("told: ")?.split_once(']')?.1;
        Some(words.trim().chars().filter(|c| !c.is_ascii_digit()).collect())
    };
    console.lines().filter_map(line).collect()
}

fn qemu(kernel: &Path, initrd: &Path) -> Option<BTreeSet<String>> {
    let mut command = Command::new("timeout");
    command.args([if in_lab() { "200" } else { "60" }, "qemu-system-x86_64"]);
    command.args([
        "-M",
        "microvm",
        "-accel",
        "kvm",
        "-cpu",
        "host",
        "-m",
        "256",
        "-nodefaults",
        "-no-user-config",
    ]);
    command.args(["-display", "none", "-serial", "stdio", "-no-reboot"]);
    command.arg("-kernel").arg(kernel).arg("-initrd").arg(initrd);
    command.args(["-append", "console=ttyS0 quiet reboot=t"]);
    let output = command.stdin(Stdio::null()).output().ok()?;
    let console = String::from_utf8_lossy(&output.stdout);
    (!console.is_empty()).then(|| complaints(&console))
}
