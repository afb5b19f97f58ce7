//! Block devices as disks: their blocks are the guest's, they have one writer by whatever name, what is given
//! back reaches them, and one that shrinks or goes is an I/O error of the guest, which goes on.

mod harness;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::host::{in_lab, skip};
use harness::machine::{Ended, scratch, vmm};
use harness::shell::{shell, tell};

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect(program);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A loop device over a file of its own; both are gone with it.
struct Loop {
    file: PathBuf,
    device: String,
}

impl Loop {
    fn new(len: u64, arguments: &[&str]) -> Loop {
        let file = scratch("loop");
        File::create(&file).expect("make a file").set_len(len).expect("make it longer");
        let device = run("losetup", &[arguments, &["-f", "--show", file.to_str().expect("text")]].concat());
        Loop { file, device }
    }

    /// KiB that the file takes.
    fn taken(&self) -> u64 {
        std::os::unix::fs::MetadataExt::blocks(&fs::metadata(&self.file).expect("a file")) / 2
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        _ = Command::new("losetup").args(["-d", &self.device]).status();
        _ = fs::remove_file(&self.file);
    }
}

/// A disk in the lab's memory with blocks of 4 KiB, which can be pulled out.
struct Null(PathBuf);

impl Null {
    fn new() -> Null {
        let place = Path::new("/sys/kernel/config/nullb/pulled");
        fs::create_dir(place).expect("make a null_blk device");
        let null = Null(place.into());
        for (name, value) in [("blocksize", 4096), ("size", 16), ("memory_backed", 1), ("discard", 1)] {
            null.set(name, value);
        }
        null.set("power", 1);
        null
    }

    fn set(&self, name: &str, value: u32) {
        fs::write(self.0.join(name), value.to_string()).expect(name);
    }

    /// Its node has its own name, or on older kernels a number.
    fn device(&self) -> String {
        let index = fs::read_to_string(self.0.join("index")).expect("its index");
        let names = ["/dev/pulled".to_owned(), format!("/dev/nullb{}", index.trim())];
        names.into_iter().find(|name| Path::new(name).exists()).expect("a node in /dev")
    }
}

impl Drop for Null {
    fn drop(&mut self) {
        _ = fs::remove_dir(&self.0);
    }
}

fn disk(device: &str, more: &str) -> [String; 2] {
    ["--disk".into(), format!("path={device}{more}")]
}

/// Errors of operations of a device, and how many operations there were.
fn errors(ended: &Ended, device: usize, name: &str) -> (u64, u64) {
    let rows = ended.report["devices"][device]["operations"].as_array().expect("a list");
    let row = rows.iter().find(|row| row["name"] == name).expect(name);
    (row["errors"].as_u64().expect("a count"), row["count"].as_u64().expect("a count"))
}

#[test]
fn a_block_device_is_a_disk() {
    if !in_lab() {
        return skip("devices can be made in the lab");
    }
    let Some(machine) = shell() else { return };
    run("busybox", &["modprobe", "loop"]);
    run("busybox", &["modprobe", "null_blk", "nr_devices=0"]);
    if !Path::new("/sys/kernel/config/nullb").exists() {
        run("mount", &["-t", "configfs", "none", "/sys/kernel/config"]);
    }
    let (writable, fixed, null) = (Loop::new(8 << 20, &[]), Loop::new(1 << 20, &["-r"]), Null::new());
    let refused = |device: &str, more: &str, words: &str| {
        vmm(disk(device, more)).run().expect_refusal(66, words);
    };
    refused(&fixed.device, "", "it can only be read: add `ro`");

    let machine = machine
        .args(disk(&writable.device, ",engine=sync"))
        .args(disk(&null.device(), ",direct,engine=uring,queues=2"))
        .args(disk(&fixed.device, ",ro"));
    let mut running = machine.spawn();
    tell(
        &mut running,
        "cd /sys/block; cat vda/size vdb/size vdc/size vdc/ro | tr '\\n' ' '; \
         grep . vd?/queue/physical_block_size vd?/queue/minimum_io_size vd?/queue/logical_block_size \
         vd?/queue/discard_granularity; echo si''zes",
    );
    running.until("\nsizes");
    // One writer, by any of its names.
    let busy = "it is mounted, part of another device, or another machine's disk";
    refused(&writable.device, "", busy);
    refused(&writable.device, ",ro", "in use by another process");
    let other = scratch("node");
    let other = other.to_str().expect("text");
    let number = run("stat", &["-c", "%Hr %Lr", &writable.device]);
    let (major, minor) = number.split_once(' ').expect("two numbers");
    run("mknod", &[other, "b", major, minor]);
    refused(other, "", busy);
    _ = fs::remove_file(other);

    // What was flushed is on the device, however the monitor ends, and it is free at once.
    tell(
        &mut running,
        "dd if=/dev/urandom of=/tmp/data bs=64k count=32; for disk in vda vdb; do \
         dd if=/tmp/data of=/dev/$disk bs=64k conv=fsync; done; md5sum </tmp/data; echo fl''ushed; \
         dd if=/dev/zero of=/dev/vdb bs=64k seek=32",
    );
    running.until("\nflushed");
    running.signal("KILL");
    let killed = running.end();
    let sum = |device: &str| run("sh", &["-c", &format!("head -c 2097152 {device} | md5sum")]);
    for device in [&writable.device, &null.device()] {
        assert!(
            killed.stdout.contains(&sum(device)),
            "{device}: {} is not in {}",
            sum(device),
            killed.stdout
        );
    }
    let shown = killed.stdout.replace('\r', "");
    assert!(shown.contains("16384 32768 2048 1 "), "{shown}");
    for (disk, name, bytes) in [
        ("vda", "logical_block_size", 512),
        ("vda", "discard_granularity", 4096),
        ("vdb", "logical_block_size", 4096),
        ("vdb", "physical_block_size", 4096),
        ("vdb", "minimum_io_size", 4096),
        ("vdb", "discard_granularity", 4096),
    ] {
        assert!(shown.contains(&format!("{disk}/queue/{name}:{bytes}\n")), "{disk} {name}: {shown}");
    }

    let before = writable.taken();
    let mut running = machine.spawn();
    tell(
        &mut running,
        "for disk in vda vdb; do blkdiscard -o 65536 -l 1048576 /dev/$disk || echo ke''pt; \
         dd if=/dev/$disk bs=64k skip=17 count=15 | md5sum; done; echo given ba''ck",
    );
    running.until("\ngiven back");
    assert!(before >= 2048 && writable.taken() <= before - 1024, "{before} {}", writable.taken());
    // One shrinks, one goes.
    File::options().write(true).open(&writable.file).expect("open it").set_len(1 << 20).expect("shrink it");
    run("losetup", &["-c", &writable.device]);
    null.set("power", 0);
    tell(
        &mut running,
        "for disk in vda vdb; do dd if=/dev/$disk of=/dev/null bs=64k skip=20; echo $disk read $?; done; \
         dd if=/dev/zero of=/dev/vda bs=64k seek=40 count=1 conv=fsync; echo written $?; \
         dd if=/dev/vda of=/dev/null bs=64k count=8 && dd if=/dev/vdc of=/dev/null bs=64k && exit 9",
    );
    let ended = running.end();
    ended.expect("exit", 9);
    for shown in ["vda read 1", "vdb read 1", "written 1"] {
        assert!(ended.stdout.contains(shown), "{shown}: {}", ended.stdout);
    }
    assert!(!ended.stdout.contains("kept"), "{}", ended.stdout);
    let said = |words: &str| ended.stderr.matches(words).count();
    assert_eq!(said("it has shrunk, or is gone; the guest gets an I/O error"), 2, "{}", ended.stderr);
    for (device, name, failed) in [
        (0, "read", true),
        (0, "write", true),
        (1, "read", true),
        (0, "discard", false),
        (1, "discard", false),
    ] {
        let (errors, count) = errors(&ended, device, name);
        assert!(count > 0 && (errors > 0) == failed, "{device} {name}: {errors} of {count}");
    }
    assert_eq!(errors(&ended, 2, "read").0, 0);
}
