//! `vmm compare`: settings side by side, what cannot be compared, and what is kept when it goes wrong.

mod harness;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use harness::host::{any_guest, in_lab, linux_guest, skip};
use harness::kernels;
use harness::machine::{binary, scratch};
use harness::tiny::{Tiny, exit};
use serde_json::Value;

fn compare<I: IntoIterator<Item = S>, S: Into<String>>(args: I) -> Output {
    let args = args.into_iter().map(Into::into);
    let mut command = Command::new(binary());
    command.arg("compare").args(args).stdin(Stdio::null()).output().expect("run vmm")
}

#[track_caller]
fn ended(output: &Output, status: i32) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "{stdout}\n{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    (stdout, stderr)
}

/// A file of this test, gone with it.
struct File(PathBuf);

impl File {
    fn new(name: &str) -> File {
        File(scratch(name))
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&fs::read(&self.0).expect("it was written")).expect("JSON")
    }

    fn out(&self, format: &str) -> String {
        format!("--out={format}:{}", self.0.display())
    }
}

impl Drop for File {
    fn drop(&mut self) {
        _ = fs::remove_file(&self.0);
    }
}

/// Arguments that boot a guest of a few instructions.
fn tiny(guest: &Tiny) -> Vec<String> {
    guest.args().into_iter().map(|arg| arg.to_string_lossy().into_owned()).collect()
}

#[test]
fn what_cannot_be_compared_is_refused_before_anything_runs() {
    let bundle = |name: &str, text: &str| {
        let file = File::new(name);
        fs::write(&file.0, text).expect("write a file");
        file
    };
    let other = bundle("other.json", r#"{"schema": "vmm.report/1"}"#);
    let cut = bundle("cut.json", r#"{"schema": "vmm.compare/1", "runs": ["#);
    let path = |file: &File| file.0.display().to_string();
    let many: Vec<String> = (0..12)
        .map(|at| {
            format!(
                "--vary={}=1,2,3,4",
                [
                    "vcpus",
                    "memory",
                    "pin",
                    "halt-poll",
                    "idle",
                    "thp",
                    "pv",
                    "boot",
                    "disk",
                    "net",
                    "vhost",
                    "irqfd"
                ][at]
            )
        })
        .collect();
    for (args, status, words) in [
        ("--vary vhots=on,off", 64, "--vary vhots: not one of kernel, "),
        ("--vary vhots=on,off", 64, "did you mean vhost?"),
        ("--vary report=text,json", 64, "--vary report: not one of"),
        ("--vary thp=on,onn", 64, "--vary thp=onn: not one of on, off; did you mean on?"),
        ("--vary vcpus=1,300", 64, "--vary vcpus=300: a machine has at most 255 vCPUs"),
        ("--vary vcpus", 64, "--vary vcpus: not of the form KNOB=A,B"),
        ("--vary vcpus=", 64, "names no value"),
        ("--vary vcpus=1,1", 64, "1 is given twice"),
        ("--vary vcpus=1", 64, "--vary: is needed, with two values or more"),
        ("--vary vcpus=1,2 --vary vcpus=3,4", 64, "--vary vcpus: is given twice"),
        ("", 64, "--vary: is needed"),
        ("--vary thp=on,off --repeat 0", 64, "--repeat 0: "),
        ("--vary thp=on,off --metric x", 64, "--metric x: not of the form NAME=REGEX"),
        ("--vary thp=on,off --metric x=(", 64, "--metric x=(: "),
        ("--vary thp=on,off --report json", 64, "--report: is compare's own to say"),
        ("--vary thp=on,off --out xml:a", 64, "not one of json, csv, html"),
        ("--vary thp=on,off --out html:no/such/folder/x", 66, "write no/such/folder/x: "),
        ("--vary thp=on,off --modules x", 64, "--modules: goes with --kernel"),
        ("--vray thp=on,off", 64, "--vray: no such flag; did you mean --vary?"),
        ("--native", 64, "--native: goes with one --workload"),
        ("--native --workload shell --kernel x", 64, "shell needs a machine"),
        ("--from /no/such.json", 65, "bundle /no/such.json: no such file"),
        (
            "--from x.json --vary thp=on,off",
            64,
            "--from: shows runs that were made before: --vary=thp comes too late",
        ),
        (&format!("--from {}", path(&other)), 65, "its schema is vmm.report/1, not vmm.compare/1"),
        (&format!("--from {}", path(&cut)), 65, "not JSON to its end"),
        (&many.join(" "), 64, "settings make 117440512 runs, 1631 hours and more; at most 100000 runs"),
    ] {
        let output = compare(args.split(' ').filter(|arg| !arg.is_empty()));
        let (stdout, stderr) = ended(&output, status);
        assert!(stdout.is_empty() && stderr.contains(words), "{args}: no {words:?} in {stderr}");
    }
}

#[test]
fn page_size_moves_page_faults_and_every_point_is_kept() {
    let Some(_) = any_guest() else { return };
    let (json, csv, html) = (File::new("points.json"), File::new("points.csv"), File::new("page.html"));
    // 16 MiB touched page by page.
    let touch = ["--workload=probe,what=touch,items=4096", "--memory=64M"];
    let mut args: Vec<String> =
        touch.iter().chain(&["--vary=thp=off,on", "--repeat=3"]).map(|arg| (*arg).to_owned()).collect();
    args.extend([json.out("json"), csv.out("csv"), html.out("html")]);
    let (stdout, stderr) = ended(&compare(args), 0);
    assert!(stdout.contains("thp=off · 3 runs · the others are compared with it"), "{stdout}");
    assert!(stdout.contains("suspected  thp=on: "), "{stdout}");
    assert!(stderr.contains("run 8 of 8 · ") && stderr.contains(" left · thp=off"), "progress: {stderr}");

    let bundle = json.json();
    assert_eq!(bundle["schema"], "vmm.compare/1");
    let runs = bundle["runs"].as_array().expect("a list");
    let order: Vec<_> = runs.iter().filter_map(|run| run["setting"].as_u64()).collect();
    assert_eq!(order, [0, 1, 1, 0, 0, 1, 1, 0], "A B, then B A, A B, B A");
    assert_eq!(runs.iter().filter(|run| run["warm_up"] == true).count(), 2);
    let changed = &bundle["results"][0]["settings"][1]["changed"];
    let fault = changed.as_array().expect("a list").iter().find(|row| row["name"] == "page_fault");
    let fault = fault.unwrap_or_else(|| panic!("page faults moved: {changed}"));
    let (from, to) = (fault["from"].as_f64().unwrap_or(0.0), fault["to"].as_f64().unwrap_or(f64::MAX));
    assert!(from > 0.9 && to < from / 20.0, "512 pages come at once: {fault}");

    assert!(fs::read_to_string(&csv.0).expect("written").lines().count() > 8 * 3);
    let page = fs::read_to_string(&html.0).expect("written");
    assert!(page.contains("<svg") && page.contains("prefers-color-scheme") && !page.contains("<script"));

    // Shown again, and joined with itself: twice the points.
    let path = json.0.display().to_string();
    let again = ended(&compare(["--from", &path]), 0).0;
    assert_eq!(again, stdout);
    let joined = ended(&compare(["--from", &path, &path]), 0).0;
    assert!(joined.contains("thp=off · 6 runs"), "{joined}");

    // Another class of hosts, a thousand times slower: a table of its own, and no ratio across.
    let mut other = bundle.clone();
    other["hosts"][0]["cpu"] = "another processor".into();
    for run in other["runs"].as_array_mut().expect("a list") {
        for time in run["metrics"].as_object_mut().expect("an object").values_mut() {
            *time = (time.as_f64().expect("a number") * 1000.0).into();
        }
    }
    let (elsewhere, joint) = (File::new("elsewhere.json"), File::new("joint.json"));
    fs::write(&elsewhere.0, other.to_string()).expect("write a file");
    let args = ["--from", &path, &elsewhere.0.display().to_string(), &joint.out("json"), &html.out("html")];
    let both = ended(&compare(args), 0).0;
    assert!(both.contains("Times are not compared between classes of hosts"), "{both}");
    let page = fs::read_to_string(&html.0).expect("written");
    assert!(page.contains("Times are not compared between classes of hosts"));
    let results = joint.json()["results"].as_array().expect("a list").clone();
    assert_eq!(results.len(), 2);
    for class in &results {
        let (found, alone) = (&class["settings"], &bundle["results"][0]["settings"]);
        assert!(found[0]["metrics"][0]["ratio"].is_null(), "{class:#}");
        let ratio = |of: &Value| of[1]["metrics"][0]["ratio"].as_f64().expect("a ratio");
        assert!((ratio(found) / ratio(alone) - 1.0).abs() < 1e-6, "{class:#}");
    }
    assert_eq!(both.matches("thp=off · 3 runs").count(), 2, "{both}");
}

#[test]
fn a_cell_that_fails_says_so_and_the_rest_goes_on() {
    let Some(_) = any_guest() else { return };
    let guest = Tiny::new(&exit(0));
    let json = File::new("cell.json");
    let mut args = tiny(&guest);
    // A disk that is not there, in one of the two.
    args.extend(["--vary=disk=default;path=/no/such/disk", "--repeat=2", "--warm-up=0"].map(String::from));
    args.push(json.out("json"));
    let (stdout, stderr) = ended(&compare(args), 1);
    assert!(stdout.contains("failed: status 66: ") && stdout.contains("/no/such/disk"), "{stdout}");
    assert!(stderr.contains("2 of 4 runs lack a result"), "{stderr}");
    let runs = json.json();
    let status: Vec<_> = runs["runs"].as_array().expect("a list").iter().map(|run| &run["status"]).collect();
    assert_eq!(status, [0, 66, 66, 0]);
}

#[test]
fn a_metric_of_ones_own_and_one_that_never_matches() {
    let Some(_) = any_guest() else { return };
    let args = [
        "--workload=ready",
        "--vary=vcpus=1,2",
        "--repeat=1",
        "--warm-up=0",
        "--metric=never=never ([0-9]+)",
    ];
    let (stdout, _) = ended(&compare(args), 1);
    assert!(stdout.contains("failed: --metric never: no match on its console"), "{stdout}");
    assert!(stdout.contains("wall time"), "what was measured is shown: {stdout}");
}

#[test]
fn interrupted_it_keeps_what_it_has() {
    let Some(_) = any_guest() else { return };
    let json = File::new("interrupted.json");
    let mut child = Command::new(binary())
        // On a slow host so many take hours, which is asked about.
        .args(["compare", "--workload=ready", "--vary=vcpus=1,2", "--repeat=5000", "--warm-up=0", "--yes"])
        .arg(json.out("json"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start vmm");
    // The third has begun: two are kept.
    let mut said = BufReader::new(child.stderr.take().expect("piped"));
    let mut stderr = String::new();
    while !stderr.contains("run 3 of") {
        assert_ne!(said.read_line(&mut stderr).expect("UTF-8"), 0, "it has ended: {stderr}");
    }
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(sent.expect("run kill").success());
    let began = Instant::now();
    while child.try_wait().expect("wait for vmm").is_none() {
        assert!(began.elapsed() < Duration::from_secs(20), "it goes on");
        std::thread::sleep(Duration::from_millis(5));
    }
    said.read_to_string(&mut stderr).expect("UTF-8");
    let (stdout, _) = ended(&child.wait_with_output().expect("its output"), 130);
    assert!(
        stdout.contains("Ended before its last run.") && stderr.contains("ended by signal 2"),
        "{stdout}\n{stderr}"
    );
    let bundle = json.json();
    assert_eq!(bundle["interrupted"], true);
    assert!(!bundle["runs"].as_array().expect("a list").is_empty());
}

#[test]
fn a_long_one_says_how_long_before_or_after_its_first_run() {
    let Some(_) = any_guest() else { return };
    for (workload, words, runs) in [
        ("--workload=null,gate=call,seconds=1,calls=100000000000", "about 2 h 46 min by their workloads", 0),
        ("--workload=jitter,period=1000000,items=1", "about 2 h 46 min by their workloads", 0),
        // Nothing says how much of its time limit it takes: the first shows it.
        ("--workload=null,gate=call,calls=100000000000", " by the first: --yes makes them", 1),
    ] {
        let args = [workload, "--timeout=2", "--vary=vcpus=1,2", "--repeat=5000", "--warm-up=0"];
        let (stdout, stderr) = ended(&compare(args), 64);
        assert!(stdout.is_empty(), "{stdout}");
        assert!(
            stderr.contains("--vary: 2 settings make 10000 runs, ") && stderr.contains(words),
            "{stderr}"
        );
        assert_eq!(stderr.matches(" left · vcpus=").count(), runs, "{stderr}");
    }
    // What is short says so, and runs.
    let known = ["--workload=jitter,period=1000,items=10", "--vary=vcpus=1,2", "--repeat=1", "--warm-up=0"];
    let stderr = ended(&compare(known), 0).1;
    assert!(stderr.contains("2 settings make 2 runs: about 0 s by their workloads"), "{stderr}");
    let limited = ["--workload=ready", "--timeout=60", "--vary=vcpus=1,2", "--repeat=1", "--warm-up=0"];
    let stderr = ended(&compare(limited), 0).1;
    assert!(stderr.contains("2 settings make 2 runs: at most 2 min 0 s by --timeout"), "{stderr}");
}

#[test]
fn what_an_ioeventfd_is_worth_to_linux() {
    let Some(_) = linux_guest() else { return };
    let Some(kernel) = kernels::cloud() else { return };
    let (image, json) = (File::new("compared.img"), File::new("linux.json"));
    fs::write(&image.0, vec![0; 1 << 20]).expect("write an image");
    // A worker that looks for the next request takes no kick for it.
    let mut args =
        ["--cmdline=quiet", "--busy-poll=0", "--vary=ioeventfd=on,off", "--repeat=2", "--warm-up=0"]
            .map(String::from)
            .to_vec();
    args.push("--workload=blk,items=500".into());
    args.push(format!("--kernel={}", kernel.bzimage.display()));
    args.push(format!("--modules={}", kernel.modules.display()));
    args.push(format!("--disk=path={}", image.0.display()));
    args.push(json.out("json"));
    let (stdout, _) = ended(&compare(args), 0);
    assert!(stdout.contains("suspected  ioeventfd=off: "), "{stdout}");
    let bundle = json.json();
    let changed = &bundle["results"][0]["settings"][1]["changed"];
    // A kick has become a return to the monitor, for each request that finds the worker asleep.
    let moved = |row: &&Value| {
        let number = |key: &str| row[key].as_f64().unwrap_or(0.0);
        row["name"].as_str().is_some_and(|name| name.contains("QueueNotify") || name.contains("NOTIFY"))
            && number("from") < 0.05
            && number("to") > 0.1
    };
    assert!(changed.as_array().expect("a list").iter().any(|row| moved(&row)), "{changed}");
}

#[test]
fn tasks_of_a_job_array_each_write_a_bundle_and_the_bundles_join() {
    let Some(_) = any_guest() else { return };
    if in_lab() {
        return skip("a cluster's nodes are hosts, not labs");
    }
    if !Path::new("/usr/sbin/slurmd").exists() {
        return skip("no Slurm here: apt-get install slurm-wlm");
    }
    let slurm = Path::new(env!("CARGO_MANIFEST_DIR")).join("../resources/slurm");
    let directory = scratch("array");
    fs::create_dir(&directory).expect("make a directory");
    let array = Command::new(slurm.join("one-machine"))
        .args(["sbatch", "--wait", "--array=1-2"])
        .arg(format!("--output={}/%a", directory.display()))
        .arg(slurm.join("compare.sbatch"))
        .arg(&directory)
        .args(["--workload=probe,what=pio,items=100", "--vary=vcpus=1,2", "--repeat=2", "--warm-up=0"])
        .env("VMM", binary())
        .stdin(Stdio::null())
        .output()
        .expect("run a cluster");
    let said = ["1", "2"].map(|task| fs::read_to_string(directory.join(task)).unwrap_or_default());
    assert!(array.status.success(), "{}{said:?}", String::from_utf8_lossy(&array.stderr));
    let bundles = fs::read_dir(&directory).expect("it is there").filter_map(|entry| {
        let path = entry.expect("an entry").path();
        path.extension().is_some_and(|end| end == "json").then(|| path.display().to_string())
    });
    let args: Vec<String> = ["--from".into()].into_iter().chain(bundles).collect();
    assert_eq!(args.len(), 3, "{args:?}");
    let joined = ended(&compare(args), 0).0;
    assert!(joined.contains("vcpus=1 · 4 runs"), "{joined}");
    fs::remove_dir_all(directory).expect("it is there");
}
