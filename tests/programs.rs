//! Real programs in a stock Linux prove the devices: fio with checksums, a filesystem made, filled and
//! mounted again, iperf3 both ways.

mod harness;

use std::fs::{self, File};
use std::io::Write;
use std::process::{Child, Command, Stdio};

use harness::host::{in_lab, linux_guest, skip};
use harness::kernels;
use harness::machine::{Ended, Machine, scratch, vmm};
use harness::tools::Tools;
use serde_json::Value;

/// Debian's cloud kernel with a shell on its console, and a disk of programs as vda.
fn linux(tools: &Tools) -> Option<Machine> {
    linux_guest()?;
    let kernel = kernels::cloud()?;
    let machine = vmm(["--kernel".into(), kernel.bzimage.into_os_string()]);
    let machine = machine.args(["--modules".into(), kernel.modules.into_os_string()]);
    let machine = machine.args(["--cmdline", "quiet", "--console", "stdio,virtio", "--workload", "shell"]);
    Some(machine.args(tools.disk()))
}

/// Runs the lines of a script in the guest, each of which must succeed; where one fails, its number is
/// the status.
fn run(machine: &Machine, script: &[&str]) -> Ended {
    let mut text = String::from("mount -o ro /dev/vda /mnt || mkdir /mnt && mount -o ro /dev/vda /mnt\n");
    text += "mount -t devtmpfs dev /mnt/dev; mount -t proc proc /mnt/proc; mount -t tmpfs tmp /mnt/tmp\n";
    for (line, number) in script.iter().zip(1..) {
        text += &format!("{line} || exit {number}\n");
    }
    text += "exit 0\n";
    let mut machine = machine.spawn();
    machine.until("/ # ");
    machine.stdin.take().expect("piped").write_all(text.as_bytes()).expect("write to the console");
    let ended = machine.end();
    ended.expect("exit", 0);
    ended
}

fn device<'a>(ended: &'a Ended, name: &str) -> &'a Value {
    let devices = ended.report["devices"].as_array().expect("a list");
    devices.iter().find(|device| device["name"] == name).expect(name)
}

/// Count, bytes and errors of one kind of operation.
fn operation(device: &Value, name: &str) -> [u64; 3] {
    let rows = device["operations"].as_array().expect("a list");
    let row = rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name} in {device}"));
    ["count", "bytes", "errors"].map(|key| row[key].as_u64().expect(key))
}

#[test]
fn fio_finds_what_it_wrote_and_a_filesystem_keeps_a_tree() {
    let Some(tools) = Tools::new(&["fio", "mke2fs", "e2fsck"]) else { return };
    let Some(machine) = linux(&tools) else { return };
    let image = scratch("disk");
    File::create(&image).and_then(|file| file.set_len(64 << 20)).expect("make an image");
    let machine = machine.args(["--vcpus", "2", "--disk"]);
    let machine = machine.args([format!("path={},engine=uring,queues=2", image.display())]);
    let ended = run(
        &machine,
        &[
            "chroot /mnt /bin/fio --name=x --filename=/dev/vdb --size=4m --rw=randwrite --bs=4k --direct=1 \
             --ioengine=libaio --iodepth=32 --verify=crc32c --verify_fatal=1 --fsync=256 --output-format=terse",
            "chroot /mnt /bin/mke2fs -q -t ext4 /dev/vdb",
            "mkdir /fs && mount -o discard /dev/vdb /fs",
            "cp -a /bin /sys/kernel/notes /etc /fs 2>/dev/null; mkdir -p /fs/deep/er && cp /bin/busybox /fs/deep/er/one",
            "(cd /fs && find . -type f | sort | xargs md5sum) >/sums && test $(wc -l </sums) -ge 3",
            "umount /fs && chroot /mnt /bin/e2fsck -fn /dev/vdb && mount /dev/vdb /fs",
            "(cd /fs && md5sum -c /sums) && rm -r /fs/deep && fstrim /fs && umount /fs",
        ],
    );
    let disk = device(&ended, "blk.1");
    let [writes, written, errors] = operation(disk, "write");
    assert!(writes >= 1024 && written >= 4 << 20 && errors == 0, "{disk}");
    let [reads, read, errors] = operation(disk, "read");
    assert!(reads >= 1024 && read >= 4 << 20 && errors == 0, "{disk}");
    assert!(operation(disk, "flush")[0] >= 4 && operation(disk, "discard")[0] > 0, "{disk}");
    let queues = disk["queues"].as_array().expect("a list");
    assert!(queues.len() == 2 && queues.iter().all(|queue| queue["errors"] == 0), "{disk}");
    let sum = |key: &str| queues.iter().filter_map(|queue| queue[key].as_u64()).sum::<u64>();
    // 32 at a time share kicks and interrupts.
    assert!(sum("kicks") < sum("chains") && sum("interrupts") < sum("chains"), "{disk}");
    assert_eq!(operation(device(&ended, "blk.0"), "read")[2], 0);
    // The host reads the filesystem, too.
    let checked = Command::new("/sbin/e2fsck").args(["-fn"]).arg(&image).output().expect("run e2fsck");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    _ = fs::remove_file(&image);
}

/// The host's end of a wire: a tap with an address, and iperf3 behind it.
struct Host {
    tap: String,
    server: Option<Child>,
}

impl Host {
    fn new() -> Option<Host> {
        let host = Host { tap: format!("i{}", std::process::id()), server: None };
        let ip = |args: &str| {
            let args = args.replace("TAP", &host.tap);
            let done = Command::new("ip").args(args.split(' ')).output();
            done.is_ok_and(|done| done.status.success())
        };
        let made =
            ip("tuntap add TAP mode tap") && ip("addr add 10.77.0.1/24 dev TAP") && ip("link set TAP up");
        if !made {
            skip("this user can't make a tap (`ip tuntap add`)");
        }
        made.then_some(host)
    }

    fn serve(&mut self) {
        let server = Command::new("iperf3").args(["-s", "-B", "10.77.0.1"]).stdout(Stdio::null()).spawn();
        self.server = Some(server.expect("start iperf3"));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            _ = server.kill();
            _ = server.wait();
        }
        _ = Command::new("ip").args(["link", "del", &self.tap]).output();
    }
}

#[test]
fn iperf3_both_ways_in_large_frames_and_without_offload_in_small_ones() {
    if linux_guest().is_none() {
        return;
    }
    if !in_lab() {
        return skip("an address on the host is the lab's affair");
    }
    let Some(tools) = Tools::new(&["iperf3"]) else { return };
    let Some(mut host) = Host::new() else { return };
    host.serve();
    for offload in ["on", "off"] {
        let Some(machine) = linux(&tools) else { return };
        let net = format!("tap={},mac=02:00:00:00:00:4d,offload={offload}", host.tap);
        let ended = run(
            &machine.args(["--net", &net]),
            &[
                "grep -qx 02:00:00:00:00:4d /sys/class/net/eth0/address",
                "ip addr add 10.77.0.2/24 dev eth0 && ip link set lo up && ip link set eth0 up",
                "chroot /mnt /bin/iperf3 -c 10.77.0.1 -n 2M --connect-timeout 20000",
                "chroot /mnt /bin/iperf3 -c 10.77.0.1 -n 2M -R",
            ],
        );
        let net = device(&ended, "net.0");
        assert_eq!((&net["data_path"], &net["faults"]), (&"userspace".into(), &0.into()));
        for name in ["send", "receive"] {
            let [frames, bytes, errors] = operation(net, name);
            assert!(bytes >= 1 << 20 && errors == 0, "{name}: {net}");
            let mean = bytes / frames;
            // Of one way half are acknowledgements: small frames are never half of 1514.
            assert_eq!(mean > 1514, offload == "on", "{name}: {mean} bytes a frame, {net}");
        }
    }
}
