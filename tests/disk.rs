//! Disks of whole machines: what can't be one is refused in one line; what the host fails to do is an I/O
//! error of the guest, which goes on; what was flushed is there, however the monitor ends.

mod harness;

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::host::{in_lab, skip};
use harness::machine::{binary, scratch, vmm};
use harness::shell::{shell, tell};

/// A directory of this test's own, gone with it.
struct Room(PathBuf);

impl Room {
    fn new() -> Room {
        let path = scratch("disks");
        fs::create_dir_all(&path).expect("make a directory");
        Room(path)
    }

    /// A file of `len` zeroes, sparse.
    fn image(&self, name: &str, len: u64) -> PathBuf {
        let path = self.0.join(name);
        File::create(&path).expect("make a file").set_len(len).expect("make it longer");
        path
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

fn disk(path: &Path, more: &str) -> [String; 2] {
    ["--disk".into(), format!("path={}{more}", path.display())]
}

#[test]
fn what_is_no_disk_is_said_before_the_boot() {
    let room = Room::new();
    let refused = |path: &Path, more: &str, words: &str| {
        vmm(disk(path, more)).run().expect_refusal(66, words);
    };
    refused(&room.0.join("none"), "", "none: No such file");
    refused(&room.0, "", "neither a file nor a block device");
    refused(Path::new("/dev/null"), "", "neither a file nor a block device");
    let pipe = room.0.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("run mkfifo").success());
    refused(&pipe, ",ro", "neither a file nor a block device");
    refused(&room.image("uneven", 700), "", "700 bytes are no multiple of its block, 512");
    refused(&room.image("empty", 0), "", "it is empty");
    refused(&room.image("named", 512), ",serial=a-name-of-more-than-20-bytes", "at most 20 bytes");
    refused(Path::new("/proc/version"), ",ro", "it is empty");
}

#[test]
fn a_disk_has_one_writer() {
    let room = Room::new();
    let path = room.image("disk", 4096);
    let both = disk(&path, "").into_iter().chain(disk(&path, ",ro"));
    vmm(both).run().expect_refusal(66, "in use by another process; two machines may share it only with `ro`");
}

#[test]
fn a_disk_that_this_user_may_not_use() {
    let room = Room::new();
    let (secret, readable) = (room.image("secret", 4096), room.image("readable", 4096));
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("chmod")
    };
    mode(&secret, 0o000);
    mode(&readable, 0o444);
    for (path, words) in [(secret, "Permission denied"), (readable, "it can only be read: add `ro`")] {
        let mut command = Command::new(binary());
        command.args(disk(&path, "")).args(["--report", "none"]);
        if fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0) {
            command.uid(65534).gid(65534);
        }
        let Ok(output) = command.output() else {
            return skip("another user can't run this binary where it is");
        };
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(77), "{said}");
        assert!(said.contains(words) && said.lines().count() == 1, "{words:?} is not in {said}");
    }
}

#[test]
fn what_the_host_fails_to_do_is_an_error_of_the_guest_which_goes_on() {
    let Some(machine) = shell() else { return };
    if !in_lab() {
        return skip("a filesystem of 1 MiB can be had in the lab");
    }
    let room = Room::new();
    let small = room.0.join("small");
    fs::create_dir(&small).expect("make a directory");
    let mut mount = Command::new("mount");
    let mounted = mount.args(["-t", "tmpfs", "-o", "size=1m", "none"]).arg(&small).status();
    assert!(mounted.expect("run mount").success());
    let full = small.join("disk");
    File::create(&full).expect("make a file").set_len(8 << 20).expect("make it longer");
    let shrinks = room.image("shrinks", 8 << 20);
    let machine = machine.args(disk(&full, ",serial=full")).args(disk(&shrinks, ",engine=uring,queues=2"));
    let mut machine = machine.spawn();
    tell(
        &mut machine,
        "cat /sys/block/vda/serial; dd if=/dev/zero of=/dev/vda bs=64k conv=fsync; echo full $?",
    );
    machine.until("full 1");
    File::options().write(true).open(&shrinks).expect("open it").set_len(1 << 20).expect("shrink it");
    tell(&mut machine, "dd if=/dev/vdb of=/dev/null bs=64k; echo shrunk $?");
    machine.until("shrunk 1");
    // Both go on where there is something to go on with.
    tell(
        &mut machine,
        "dd if=/dev/vda of=/dev/null bs=64k && dd if=/dev/vdb of=/dev/null bs=64k count=8 && exit 9",
    );
    let ended = machine.end();
    ended.expect("exit", 9);
    let said = |words: &str| ended.stderr.matches(words).count();
    assert_eq!(
        said("No space left on device (os error 28); the guest gets an I/O error"),
        1,
        "{}",
        ended.stderr
    );
    assert_eq!(said("the file ends before that: it has shrunk; the guest gets"), 1, "{}", ended.stderr);
    let errors = |device: usize, name: &str| {
        let rows = ended.report["devices"][device]["operations"].as_array().expect("a list");
        let row = rows.iter().find(|row| row["name"] == name).expect(name);
        assert!(row["count"].as_u64() > row["errors"].as_u64() && row["ns_max"].as_u64() > Some(0), "{row}");
        row["errors"].as_u64().expect("a count")
    };
    assert!(errors(0, "write") > 0 && errors(1, "read") > 0);
    assert_eq!(errors(0, "read"), 0);
    assert_eq!(
        (&ended.report["devices"][0]["faults"], &ended.report["devices"][1]["faults"]),
        (&0.into(), &0.into())
    );
    _ = Command::new("umount").arg(&small).status();
}

#[test]
fn what_was_flushed_survives_the_monitor() {
    let Some(machine) = shell() else { return };
    let room = Room::new();
    for engine in ["sync", "uring"] {
        let path = room.image(engine, 16 << 20);
        let mut machine = machine.clone().args(disk(&path, &format!(",engine={engine}"))).spawn();
        // More is written behind the flush, while the monitor is killed.
        tell(
            &mut machine,
            "dd if=/dev/urandom of=/tmp/data bs=64k count=16; dd if=/tmp/data of=/dev/vda conv=fsync,notrunc; \
             md5sum </tmp/data; echo flushed; dd if=/dev/zero of=/dev/vda bs=64k seek=16 count=200",
        );
        machine.until("\r\nflushed");
        machine.signal("KILL");
        let ended = machine.end();
        assert_eq!(ended.status, 128 + 9);
        let script = format!("head -c 1048576 {} | md5sum", path.display());
        let sum = Command::new("sh").arg("-c").arg(script).output().expect("run md5sum").stdout;
        let sum = String::from_utf8_lossy(&sum);
        assert!(ended.stdout.contains(sum.trim()), "{engine}: {sum} is not in {}", ended.stdout);
    }
}
