//! `vmm repro`: the published experiments at a small size, judged by the mechanism that the ledger shows.

mod harness;

use std::fs;
use std::process::{Command, Output, Stdio};

use harness::host::{any_guest, in_lab};
use harness::machine::{binary, scratch};
use serde_json::Value;

fn repro(args: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.arg("repro").args(args).stdin(Stdio::null()).output().expect("run vmm")
}

/// What it found, and what it said.
fn found(args: &[&str]) -> (Vec<Value>, String, String) {
    let (json, html) = (scratch("repro.json"), scratch("repro.html"));
    let outs = [format!("--out=json:{}", json.display()), format!("--out=html:{}", html.display())];
    let args: Vec<&str> = args.iter().copied().chain(outs.iter().map(String::as_str)).collect();
    let output = repro(&args);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(output.status.code(), Some(0), "{text}\n{stderr}");
    let read = |path| fs::read_to_string(path).expect("it was written");
    let (bundle, page) = (read(&json), read(&html));
    _ = (fs::remove_file(json), fs::remove_file(html));
    let bundle: Value = serde_json::from_str(&bundle).expect("JSON");
    assert_eq!(bundle["schema"], "vmm.repro/1");
    (bundle["experiments"].as_array().expect("a list").clone(), text, page)
}

#[test]
fn the_mechanism_moves_as_every_experiment_claims() {
    let Some(_) = any_guest() else { return };
    // The lab's emulated CPU has time for those whose counts differ there.
    let names: &[&str] = if in_lab() { &["ipc", "touch"] } else { &["--all"] };
    let runs = names.iter().map(|name| found(&[name, "--warm-up", "0", "--repeat", "1"]));
    let (mut experiments, mut judged) = (0, Vec::new());
    for (results, text, page) in runs {
        for result in &results {
            experiments += 1;
            let name = result["experiment"]["name"].as_str().expect("a name");
            assert!(page.contains(&format!("<article id=\"{name}\">")), "{name} is not on the page");
            for (claim, found) in pairs(result) {
                // A time is the host's of the moment; a count is the mechanism.
                if claim.get("time").is_some() || found["verdict"] == "not-judged" {
                    continue;
                }
                assert_eq!(found["verdict"], "same-direction", "{name}: {found}\n{text}");
                judged.push(format!("{name}: {}", claim["count"].as_str().unwrap_or_default()));
            }
            // What did not run says why.
            for left_out in result["left_out"].as_array().expect("a list") {
                assert!(left_out[1].as_str().is_some_and(|why| !why.is_empty()), "{left_out}");
            }
        }
    }
    for claim in ["ipc: halt exits", "ipc: the guest's ipis", "touch: page_fault exits"] {
        assert!(judged.iter().any(|judged| judged == claim), "{claim} was not judged: {judged:?}");
    }
    assert!(experiments >= if in_lab() { 2 } else { 15 }, "{experiments}");
}

/// Each claim, and what became of it.
fn pairs(result: &Value) -> Vec<(&Value, &Value)> {
    let list = |value: &'_ Value| value.as_array().map_or(0, Vec::len);
    let (claims, judged) = (&result["experiment"]["claim"], &result["judgement"]["claims"]);
    assert_eq!(list(claims), list(judged), "{result}");
    (0..list(claims)).map(|at| (&claims[at], &judged[at])).collect()
}

#[test]
fn the_list_and_what_is_not_in_it() {
    let list = String::from_utf8(repro(&[]).stdout).expect("UTF-8");
    for name in ["ipc ", "null ", "gups ", "stream ", "jitter "] {
        assert!(list.lines().any(|line| line.starts_with(name)), "no {name} in {list}");
    }
    let broken = scratch("broken.toml");
    fs::write(&broken, "title = \"x\"\ntitel = 1\n").expect("write a file");
    for (args, status, words) in [
        (&["ipx"][..], 64, "no such experiment; did you mean ipc?"),
        (&["ipc", "--all"], 64, "cannot be used with"),
        (&["ipc", "--out", "csv:x"], 64, "repro writes json and html"),
        (&["ipc", "--repeat", "0"], 64, "--repeat 0"),
        (&["/no/such.toml"], 65, "experiment /no/such.toml: no such file"),
        (&[broken.to_str().expect("UTF-8")], 65, "titel"),
    ] {
        let output = repro(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{args:?}: {stderr}");
        assert!(stderr.contains(words) && !stderr.contains("panicked"), "{args:?}: {stderr}");
    }
    fs::remove_file(broken).expect("remove it");
}
