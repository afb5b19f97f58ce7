//! `vmm doctor` on this host, and on hosts where no machine runs.

mod harness;

use std::fs;
use std::process::{Command, Output};

use harness::host::{any_guest, skip};
use harness::machine::{binary, scratch};
use serde_json::Value;

fn checkup(output: &Output) -> Value {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.stderr.is_empty(), "{stderr}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn a_host_where_machines_run_and_what_it_counts() {
    let Some(_) = any_guest() else { return };
    let doctor = |args: &[&str]| Command::new(binary()).arg("doctor").args(args).output().expect("run vmm");
    let output = doctor(&["--json"]);
    assert_eq!(output.status.code(), Some(0));
    let checkup = checkup(&output);
    assert_eq!((&checkup["schema"], &checkup["status"]), (&"vmm.doctor/1".into(), &0.into()));
    // Every kind of host counts halts.
    assert_eq!(checkup["counters"]["halt"], true, "{checkup}");
    let findings = checkup["findings"].as_array().expect("a list");
    for finding in findings {
        let good = finding["verdict"] == "good";
        assert_eq!(finding["remedy"].is_null(), good, "what is not good has its remedy: {finding}");
    }
    let text = String::from_utf8(doctor(&[]).stdout).expect("UTF-8");
    assert!(text.starts_with("machines run here"), "{text}");
    for finding in findings.iter().filter_map(|finding| finding["name"].as_str()) {
        assert!(text.contains(finding), "no {finding} in {text}");
    }
}

#[test]
fn hosts_where_no_machine_runs_have_a_status_of_their_own() {
    let allowed = Command::new("unshare").args(["--mount", "true"]).output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        return skip("a mount namespace needs root");
    }
    // Where everyone may run it.
    let vmm = scratch("vmm");
    fs::copy(binary(), &vmm).expect("copy vmm");
    let forbidden = "mount -t tmpfs none /dev; mknod -m 600 /dev/kvm c 10 232; AS='setpriv --reuid=65534 --clear-groups';";
    for (prepare, status, found) in [
        ("mount -t tmpfs none /dev;", 69, "there is none"),
        ("mount --bind /dev/null /dev/kvm;", 69, "/dev/kvm"),
        (forbidden, 77, "no permission"),
    ] {
        let run = format!("{prepare} exec $AS \"$0\" doctor --json");
        let output = Command::new("unshare").args(["--mount", "sh", "-c", &run]).arg(&vmm).output();
        let output = output.expect("run unshare");
        let checkup = checkup(&output);
        assert_eq!((output.status.code(), &checkup["status"]), (Some(status), &status.into()));
        let first = &checkup["findings"][0];
        assert_eq!(first["verdict"], "fatal", "{first}");
        assert!(first["found"].as_str().is_some_and(|words| words.contains(found)), "{first}");
        assert!(first["remedy"].is_string(), "{first}");
    }
    fs::remove_file(vmm).expect("remove it");
}
