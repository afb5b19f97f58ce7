//! A host that fails its machines: no descriptors left, stopped in the middle, killed without a word. What
//! cannot go on says so in a line, and whoever starts next finds nothing in its way.

mod harness;

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::host::any_guest;
use harness::machine::{Machine, binary, scratch, vmm};
use harness::tiny::{Tiny, exit, print, spin};

/// A folder with a disk image of zeros.
fn folder() -> (PathBuf, PathBuf) {
    let folder = scratch("folder");
    fs::create_dir(&folder).expect("make a folder");
    let image = folder.join("disk");
    fs::File::create(&image).and_then(|file| file.set_len(16 << 20)).expect("make an image");
    (folder, image)
}

/// A machine that has its disk read so often.
fn reader(image: &Path, items: u32) -> Machine {
    let (disk, workload) = (format!("path={}", image.display()), format!("blk,items={items}"));
    vmm(["--memory", "64M", "--console", "none", "--workload", &workload, "--disk", &disk])
}

#[test]
fn too_few_descriptors_are_an_error_in_a_line() {
    let Some(_) = any_guest() else { return };
    let (folder, image) = folder();
    let mut last = None;
    // A few more, and only the disk's worker has too few: the guest hears nothing of it for ten seconds.
    for most in (3..19).chain([32]) {
        let ended = reader(&image, 10).through(["prlimit".into(), format!("--nofile={most}")]).run();
        let told = format!("{most}: {} {}", ended.status, ended.stderr);
        assert!(!ended.stderr.contains("panicked") && !ended.stderr.contains("forbids"), "{told}");
        // Another host resource, or a file that can't be opened for want of it; or KVM itself can't.
        assert!([0, 65, 66, 69, 73].contains(&ended.status), "{told}");
        assert!(ended.status == 0 || ended.stderr.lines().any(|line| line.starts_with("vmm: ")), "{told}");
        last = Some(ended);
    }
    let last = last.expect("the last");
    assert_eq!((last.status, last.value("blk,items=10", "failed")), (0, 0), "{}", last.stderr);
    fs::remove_dir_all(folder).expect("remove it");
}

#[test]
fn stopped_and_continued_it_goes_on_where_it_was() {
    let Some(_) = any_guest() else { return };
    let (folder, image) = folder();
    let running = reader(&image, 3000).spawn();
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(40));
        running.signal("STOP");
        std::thread::sleep(Duration::from_millis(100));
        running.signal("CONT");
    }
    let ended = running.end();
    ended.expect("exit", 0);
    assert_eq!((ended.value("blk,items=3000", "ops"), ended.value("blk,items=3000", "failed")), (3000, 0));
    fs::remove_dir_all(folder).expect("remove it");
}

#[test]
fn what_it_opens_is_not_taken_for_standard_output() {
    let Some(_) = any_guest() else { return };
    let (folder, image) = folder();
    let guest = Tiny::new(&[print(&"not for the disk ".repeat(40)), exit(3)].concat());
    let disk = format!("path={}", image.display());
    let closed = vmm(guest.args()).args(["--memory", "32M", "--disk", &disk]);
    let ended = closed.through(["sh", "-c", "exec \"$@\" <&- >&- 2>&-", "sh"]).run();
    ended.expect("exit", 3);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", ""));
    assert!(fs::read(&image).expect("the image").iter().all(|byte| *byte == 0));
    fs::remove_dir_all(folder).expect("remove it");
}

/// Names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<String> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn killed_it_leaves_nothing_in_the_way_of_the_next() {
    let Some(_) = any_guest() else { return };
    let (folder, image) = folder();
    let guest = Tiny::new(&[print("here\n"), spin()].concat());
    let disk = format!("path={}", image.display());
    let report = format!("text:{}", folder.join("report").display());
    for _ in 0..3 {
        let machine = vmm(guest.args()).args(["--memory", "32M", "--disk", &disk, "--report", &report]);
        let mut running = machine.spawn();
        running.until("here");
        let pid = running.pid();
        running.signal("KILL");
        assert_eq!(running.end().status, 137);
        assert_eq!(names(&folder), ["disk"]);
        let looked = Command::new(binary()).args(["top", &pid.to_string()]).output().expect("run vmm top");
        assert_eq!(looked.status.code(), Some(66));
    }
    // The lock of the image is gone with its owner.
    let ended = reader(&image, 10).run();
    ended.expect("exit", 0);
    fs::remove_dir_all(folder).expect("remove it");
}

#[test]
fn the_socket_of_a_killed_switch_is_the_next_ones() {
    let sockets = [scratch("a"), scratch("b")];
    let start = || {
        let mut command = Command::new(binary());
        command.args(["switch", "--report", "none"]).stderr(Stdio::piped());
        for socket in &sockets {
            command.arg("--port").arg(socket);
        }
        command.spawn().expect("run vmm switch")
    };
    let listens = || {
        let began = Instant::now();
        while !sockets.iter().all(|socket| UnixStream::connect(socket).is_ok()) {
            assert!(began.elapsed() < Duration::from_secs(20), "nobody listens");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let mut first = start();
    listens();
    // One that lives is not replaced.
    let second = start().wait_with_output().expect("its end");
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(second.status.code() == Some(66) && said.contains("exists already"), "{said}");
    first.kill().expect("kill it");
    first.wait().expect("its end");
    assert!(sockets.iter().all(|socket| socket.exists()));
    let mut next = start();
    listens();
    let terminated = Command::new("kill").arg("-TERM").arg(next.id().to_string()).status();
    assert!(terminated.expect("run kill").success());
    assert_eq!(next.wait().expect("its end").code(), Some(143));
    assert!(sockets.iter().all(|socket| !socket.exists()));
    // What is no socket is nobody's to remove.
    fs::write(&sockets[0], "x").expect("write a file");
    let refused = start().wait_with_output().expect("its end");
    assert_eq!((refused.status.code(), fs::read(&sockets[0]).expect("the file")), (Some(66), b"x".to_vec()));
    fs::remove_file(&sockets[0]).expect("remove it");
}
