//! Devices of the built-in guest kernel, whole: what a driver pays for each request, by interrupts or
//! polled, and what it makes of a device that isn't there.

mod harness;

use std::fs::File;
use std::path::{Path, PathBuf};

use harness::host::{any_guest, skip};
use harness::machine::{Machine, scratch, vmm};

/// A machine of one CPU with these workloads.
fn machine(workloads: &[&str]) -> Machine {
    let words = workloads.iter().flat_map(|workload| ["--workload", workload]);
    vmm(["--memory", "128M"]).args(words)
}

/// A disk image of zeros.
fn image(bytes: u64) -> PathBuf {
    let path = scratch("disk");
    File::create(&path).and_then(|file| file.set_len(bytes)).expect("make an image");
    path
}

fn disk(path: &Path) -> [String; 2] {
    ["--disk".into(), format!("path={}", path.display())]
}

#[test]
fn a_polled_disk_takes_no_exit() {
    let Some(_) = any_guest() else { return };
    let image = image(16 << 20);
    let (few, many) = ("blk,blk=poll,items=500", "blk,blk=poll,items=5000");
    let ended = machine(&[few, many]).args(disk(&image)).args(["--busy-poll", "1000000"]).run();
    ended.expect("exit", 0);
    assert_eq!((ended.value(few, "ops"), ended.value(many, "ops")), (500, 5000));
    // The worker looks at the ring by itself: it sleeps once or twice, where this machine is busy.
    assert!(ended.value(many, "kicks") <= 50, "{}", ended.value(many, "kicks"));
    assert_eq!(ended.value(many, "interrupts"), 0);
    // What is left is bringing the device up, and the record.
    assert!(ended.returns(many).abs_diff(ended.returns(few)) <= 8, "{}", ended.returns(many));
    let queue = &ended.report["devices"][0]["queues"][0];
    assert_eq!((&queue["chains"], &queue["kick_exits"]), (&5500.into(), &0.into()));
    let _ = std::fs::remove_file(image);
}

#[test]
fn a_disk_by_interrupts_on_either_transport() {
    let Some(_) = any_guest() else { return };
    let image = image(16 << 20);
    let (one, many, polled) =
        ("blk,items=300", "blk,items=300,depth=16,rw=mixed", "blk,items=300,depth=16,blk=poll");
    for knobs in [
        &["--transport=pci"][..],
        &["--transport=mmio"],
        &["--event-idx=off"],
        &["--irqfd=off", "--ioeventfd=off"],
        &["--transport=mmio", "--event-idx=off"],
    ] {
        let ended = machine(&[one, many, polled]).args(disk(&image)).args(knobs).run();
        ended.expect("exit", 0);
        for workload in [one, many, polled] {
            assert_eq!(ended.value(workload, "ops"), 300, "{knobs:?}");
            assert_eq!(ended.value(workload, "failed"), 0, "{knobs:?}");
            // Each request is kicked for, or there was no need to.
            let kicks = ended.value(workload, "kicks") + ended.value(workload, "kicks_avoided");
            assert_eq!(kicks, 300, "{knobs:?}");
        }
        assert!(ended.value(one, "interrupts") > 0 && ended.value(polled, "interrupts") == 0, "{knobs:?}");
        assert!(ended.value(many, "kicks") <= 200, "one kick for what was submitted together: {knobs:?}");
    }
    let _ = std::fs::remove_file(image);
}

#[test]
fn a_kick_is_the_kernels_to_answer_or_an_exit_to_the_monitor() {
    let Some(_) = any_guest() else { return };
    let image = image(1 << 20);
    let kicks = "probe,what=kick,items=500";
    let run = |knobs: &[&str], exits: u64| {
        let ended = machine(&[kicks]).args(disk(&image)).args(knobs).run();
        ended.expect("exit", 0);
        assert_eq!(ended.value(kicks, "ops"), 500);
        assert_eq!(ended.report["devices"][0]["queues"][0]["kick_exits"], exits, "{knobs:?}");
        ended.report["exits"]["kernel"]["io"].as_u64()
    };
    let io = ["port", "memory"].map(|place| {
        let place = format!("--kicks={place}");
        run(&[&place, "--ioeventfd=off"], 500);
        run(&[&place], 0)
    });
    // KVM counts an `out` that it answers by itself, and no store.
    match io {
        [Some(port), Some(memory)] => assert!(port >= memory + 500, "{port} and {memory}"),
        _ => skip("this host's KVM does not count accesses of ports"),
    }
    let without = machine(&[kicks]).run();
    assert_eq!(without.record(kicks)["outcome"], "unavailable:no-such-device");
    let _ = std::fs::remove_file(image);
}

#[test]
fn a_disk_that_is_not_there_or_not_enough() {
    let Some(_) = any_guest() else { return };
    let image = image(1 << 20);
    let without = machine(&["blk", "null,gate=call,calls=10"]).run();
    without.expect("exit", 0);
    assert_eq!(without.record("blk")["outcome"], "unavailable:no-such-device");
    assert_eq!(without.record("null,gate=call,calls=10")["outcome"], "ok");
    // Nothing was looked for where the machine has no device: no exit but the record's.
    let rows = without.report["exits"]["userspace"].as_array().expect("rows");
    assert!(rows.iter().all(|row| row["reason"] != "mmio-read"), "{rows:#?}");
    for (workload, why) in [
        ("blk,disk=1", "no-such-device"),
        ("blk,size=700", "size-is-no-multiple-of-512"),
        ("blk,size=1m,depth=128", "too-little-memory"),
    ] {
        let ended = machine(&[workload, "blk,items=10"]).args(disk(&image)).run();
        ended.expect("exit", 0);
        assert_eq!(ended.record(workload)["outcome"], format!("unavailable:{why}"));
        assert_eq!(ended.value("blk,items=10", "ops"), 10);
    }
    let _ = std::fs::remove_file(image);
}

/// A sum over the queues of the first device.
fn sum(report: &serde_json::Value, key: &str) -> u64 {
    let queues = report["devices"][0]["queues"].as_array().expect("queues");
    queues.iter().filter_map(|queue| queue[key].as_u64()).sum()
}

#[test]
fn a_disk_waits_for_what_it_may_do_in_a_second() {
    let Some(_) = any_guest() else { return };
    let image = image(16 << 20);
    let [flag, path] = disk(&image);
    // Of 4 KiB each: two are saved up, the others wait for some 60 ms; no host takes so long for one itself.
    let workload = "blk,items=8";
    for (engine, rate) in [("sync", "64K"), ("uring", "64K"), ("sync", "16ops"), ("uring", "1G+16ops")] {
        let disk = format!("{path},engine={engine},rate={rate}");
        let ended = machine(&[workload]).args([&flag, &disk]).run();
        ended.expect("exit", 0);
        assert_eq!((ended.value(workload, "ops"), ended.value(workload, "failed")), (8, 0), "{disk}");
        let (waits, us) = (sum(&ended.report, "throttled"), sum(&ended.report, "throttled_us"));
        assert!((4..=8).contains(&waits) && us > 0, "{disk}: {waits} waits, {us} us");
        assert_eq!(sum(&ended.report, "chains"), 8);
    }
    let free = machine(&[workload]).args([flag, path]).run();
    assert_eq!(sum(&free.report, "throttled"), 0);
    let _ = std::fs::remove_file(image);
}

#[test]
fn writes_to_a_disk_that_refuses_them_fail_one_by_one() {
    let Some(_) = any_guest() else { return };
    let image = image(1 << 20);
    let [flag, path] = disk(&image);
    let workload = "blk,rw=write,items=20,depth=4";
    let ended = machine(&[workload]).args([flag, format!("{path},ro")]).run();
    ended.expect("exit", 0);
    assert_eq!((ended.value(workload, "ops"), ended.value(workload, "failed")), (20, 20));
    let _ = std::fs::remove_file(image);
}

/// A tar image of these files.
fn tar(contents: &[&[u8]]) -> Vec<u8> {
    let folder = scratch("root");
    std::fs::create_dir(&folder).expect("make a folder");
    for (n, content) in contents.iter().enumerate() {
        std::fs::write(folder.join(format!("file{n}")), content).expect("write a file");
    }
    let output = std::process::Command::new("tar").arg("-C").arg(&folder).args(["-cf", "-", "."]).output();
    let _ = std::fs::remove_dir_all(&folder);
    output.expect("run tar").stdout
}

#[test]
fn a_root_in_memory_or_on_a_disk() {
    let Some(_) = any_guest() else { return };
    let contents: [&[u8]; 3] = [&[0xa5; 100_000], b"a short one", b""];
    let path = scratch("root.tar");
    std::fs::write(&path, tar(&contents)).expect("write the image");
    let bytes: u64 = contents.iter().map(|content| content.len() as u64).sum();
    let workloads = ["root", "root,from=disk", "root,from=disk,blk=poll"];
    let initrd = ["--initrd".into(), path.display().to_string()];
    let ended = machine(&workloads).args(initrd.clone()).args(disk(&path)).run();
    ended.expect("exit", 0);
    for workload in workloads {
        assert_eq!(ended.value(workload, "ops"), 3, "{workload}");
        assert_eq!(ended.value(workload, "bytes"), bytes, "{workload}");
    }
    // Whichever way they came, the same bytes.
    let sums = workloads.map(|workload| ended.value(workload, "sum"));
    assert!(sums.iter().all(|sum| *sum == sums[0]) && sums[0] != 0xcbf2_9ce4_8422_2325, "{sums:x?}");
    // Again and again through a cache that is smaller than the root: what the rule keeps is not read again.
    let again = ["root,from=disk,rounds=3,size=64k", "root,from=disk,rounds=3,size=64k,cache=tagged"];
    let ended = machine(&again).args(disk(&path)).run();
    ended.expect("exit", 0);
    let misses = again.map(|workload| {
        assert_eq!(ended.value(workload, "ops"), 9, "{workload}");
        assert!(ended.value(workload, "hits") > 0, "{workload}");
        ended.value(workload, "misses")
    });
    // A hundred kilobytes are 25 pages, of which 16 are kept, or none.
    assert!(misses[0] >= 3 * 25 && misses[1] <= misses[0] - 2 * 10, "{misses:?}");
    assert_eq!(sum(&ended.report, "chains"), misses.iter().sum::<u64>());
    let _ = std::fs::remove_file(path);
}

#[test]
fn a_corrupt_root_is_said_and_the_next_workload_goes_on() {
    let Some(_) = any_guest() else { return };
    let good = tar(&[&[7; 5000]]);
    let mut garbled = good.clone();
    garbled[3] ^= 1;
    for (image, why) in [
        (garbled, "failed:tar-header-checksum-is-wrong"),
        (good[..3000].to_vec(), "failed:tar-file-is-cut-short"),
        (vec![b'x'; 2048], "failed:tar-header-is-none"),
    ] {
        let path = scratch("root.tar");
        std::fs::write(&path, image).expect("write the image");
        let initrd = ["--initrd".into(), path.display().to_string()];
        let ended = machine(&["root", "null,gate=call,calls=10"]).args(initrd).run();
        ended.expect("exit", 0);
        assert_eq!(ended.record("root")["outcome"], why);
        assert_eq!(ended.record("null,gate=call,calls=10")["outcome"], "ok");
        let _ = std::fs::remove_file(path);
    }
    let without = machine(&["root"]).run();
    assert_eq!(without.record("root")["outcome"], "unavailable:no-root-in-memory");
    machine(&["root"]).args(["--initrd", "/nonexistent"]).run().expect_refusal(65, "/nonexistent");
}
