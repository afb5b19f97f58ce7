//! `vmm switch` as a program: its flags, its sockets, its signals, its reports. What it does with frames
//! is tested beside it, in `devices`.

mod harness;

use harness::machine::binary;
use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

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
