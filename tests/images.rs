//! Kernels, initrds, command lines and /dev/kvm that can't be used: one line, the right status, at once.

mod harness;

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use harness::host::{any_guest, in_lab, skip};
use harness::machine::binary;
use harness::tiny::{Tiny, exit};

/// A file of this test's own, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, content: &[u8]) -> Scratch {
        let path = std::env::temp_dir().join(format!("vmm-images-{}-{name}", std::process::id()));
        fs::write(&path, content).expect("write a file");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        _ = fs::remove_file(&self.0);
    }
}

/// What it says on stderr, in one line, while it ends with `status` and prints nothing.
fn refused(mut command: Command, status: i32, words: &str) {
    let output = command.stdin(Stdio::null()).output().expect("run vmm");
    let said = String::from_utf8_lossy(&output.stderr);
    let told = format!("{command:?} ended with {:?} and said: {said}", output.status);
    assert_eq!(output.status.code(), Some(status), "{told}");
    assert!(output.stdout.is_empty() && said.starts_with("vmm: ") && said.lines().count() == 1, "{told}");
    assert!(said.contains(words), "{words:?} is not in what {told}");
}

fn vmm(kernel: &Scratch, args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.arg("--kernel").arg(&kernel.0).args(["--memory", "16M", "--report", "none"]).args(args);
    command
}

/// A 64-bit ELF executable of one segment of `memory` bytes at 1 MiB.
fn elf(memory: u64) -> Vec<u8> {
    let mut elf = vec![0u8; 0x1000];
    elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
    for (at, value) in [(16, 2u64), (18, 62), (24, 0x10_0000), (32, 64), (54, 56), (56, 1)] {
        elf[at..at + 2].copy_from_slice(&(value as u16).to_le_bytes());
        elf[at + 2] |= (value >> 16) as u8;
    }
    for (at, value) in [(0, 1u64), (24, 0x10_0000), (32, 0x1000), (40, memory)] {
        elf[64 + at..64 + at + 8].copy_from_slice(&value.to_le_bytes());
    }
    elf
}

/// The header of a bzImage that promises 64 KiB, and as much of it as is asked for.
fn bzimage(bytes: usize) -> Vec<u8> {
    let mut image = vec![0u8; 0x1_0000];
    image[..2].copy_from_slice(b"MZ");
    image[0x1f1] = 1;
    image[0x1f4..0x1f8].copy_from_slice(&(0xfc00u32 / 16).to_le_bytes());
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&0x20fu16.to_le_bytes());
    image[0x236] = 1;
    image.truncate(bytes);
    image
}

#[test]
fn a_bzimage_cut_short_anywhere() {
    // Hundreds of processes: where each takes its time, some of them.
    let step = if in_lab() { 16 } else { 1 };
    for bytes in (1..0x280).step_by(step).chain([0x205, 0x206, 0x400, 0x1000, 0xffff]) {
        let kernel = Scratch::new("short", &bzimage(bytes));
        let words = if bytes < 0x206 { "kernel " } else { "is cut short" };
        refused(vmm(&kernel, &[]), 65, words);
    }
}

#[test]
fn what_is_no_kernel_for_this_machine() {
    let other = |at: usize, value: u8| {
        let mut elf = elf(0x1000);
        elf[at] = value;
        elf
    };
    for (name, content, words) in [
        ("text", b"#!/bin/sh\necho\n".to_vec(), "is neither a bzImage nor an ELF kernel"),
        ("arm", other(18, 183), "is an ELF file for another machine (e_machine 183"),
        ("elf32", other(4, 1), "is a 32-bit ELF file"),
        ("object", other(16, 1), "is an ELF file of type 1"),
        (
            "low",
            {
                let mut low = elf(0x1000);
                low[64 + 24 + 2] = 0;
                low
            },
            "below 1 MiB",
        ),
    ] {
        if name == "low" && any_guest().is_none() {
            continue;
        }
        refused(vmm(&Scratch::new(name, &content), &[]), 65, words);
    }
}

#[test]
fn more_than_memory_holds() {
    let Some(_) = any_guest() else { return };
    let large = Scratch::new("large", &elf(64 << 20));
    refused(vmm(&large, &[]), 65, "needs memory up to 65 MiB, the machine has 16 MiB");
    let small = Scratch::new("small", &elf(0x1000));
    let initrd = Scratch::new("initrd", &[]);
    File::create(&initrd.0).and_then(|file| file.set_len(20 << 20)).expect("make a sparse file");
    let path = initrd.0.to_str().expect("a path of ASCII");
    refused(vmm(&small, &["--initrd", path]), 65, "initrd of 20 MiB does not fit");
    let mut packed = bzimage(0x1_0000);
    for (at, value) in [(0x258, 16u32 << 20), (0x260, 64 << 20)] {
        packed[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    let packed = Scratch::new("packed", &packed);
    refused(vmm(&packed, &["--initrd", path]), 65, "needs memory up to 80 MiB, the machine has 16 MiB");
    let line = "x".repeat(2048);
    refused(
        vmm(&small, &["--cmdline", &line]),
        64,
        "command line of 2048 bytes; this kernel takes at most 2047",
    );
}

#[test]
fn a_kernel_that_may_not_be_read() {
    let nobody = || {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--clear-groups"]);
        command
    };
    if !nobody().arg("true").output().is_ok_and(|output| output.status.success()) {
        return skip("only root can be somebody else");
    }
    let (vmm, kernel) = (anyones_vmm(), Scratch::new("secret", &elf(0x1000)));
    fs::set_permissions(&kernel.0, Permissions::from_mode(0o600)).expect("hide the kernel");
    let mut command = nobody();
    command.arg(&vmm.0).arg("--kernel").arg(&kernel.0);
    refused(command, 65, "no permission to read it");
}

/// The program where everyone may run it.
fn anyones_vmm() -> Scratch {
    let copy = Scratch::new("vmm", &[]);
    fs::copy(binary(), &copy.0).expect("copy vmm");
    copy
}

/// `vmm` where /dev/kvm is what `prepare` makes of it, in a mount namespace of its own.
fn with_kvm(vmm: &Scratch, prepare: &str, guest: &Tiny) -> Command {
    let mut command = Command::new("unshare");
    let run = format!("{prepare} exec $AS \"$@\"");
    command.args(["--mount", "sh", "-c", &run, "sh"]).arg(&vmm.0).args(guest.args());
    command
}

#[test]
fn a_kvm_that_is_missing_forbidden_or_none() {
    let allowed = Command::new("unshare").args(["--mount", "true"]).output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        return skip("a mount namespace needs root");
    }
    let (vmm, guest) = (anyones_vmm(), Tiny::new(&exit(0)));
    refused(with_kvm(&vmm, "mount -t tmpfs none /dev;", &guest), 69, "open /dev/kvm: there is none");
    refused(with_kvm(&vmm, "mount --bind /dev/null /dev/kvm;", &guest), 69, "/dev/kvm");
    let nobody = "mount -t tmpfs none /dev; mknod -m 600 /dev/kvm c 10 232; mknod -m 666 /dev/null c 1 3;";
    let mut forbidden = with_kvm(&vmm, nobody, &guest);
    forbidden.env("AS", "setpriv --reuid=65534 --clear-groups");
    refused(forbidden, 77, "open /dev/kvm: no permission");
}
