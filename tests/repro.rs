//! `vmm repro`: the published experiments at a small size, judged by the mechanism that the ledger shows.

mod harness;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use harness::host::{any_guest, in_lab, linux_guest};
use harness::kernels;
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

/// Runs it at its small size, once; every claim about a count that was judged, all of which must hold,
/// and each known tool that ran beside ours.
fn judged(args: &[&str]) -> Vec<String> {
    judged_by(1, |_| true, args)
}

/// The same by the middle one of so many runs, as far as those of these names are concerned.
fn judged_by(repeat: usize, concerns: impl Fn(&str) -> bool, args: &[&str]) -> Vec<String> {
    let often = repeat.to_string();
    let args: Vec<&str> = args.iter().copied().chain(["--warm-up", "0", "--repeat", &often]).collect();
    let (results, text, page) = found(&args);
    let mut judged = Vec::new();
    for result in &results {
        let name = result["experiment"]["name"].as_str().expect("a name");
        assert!(page.contains(&format!("<article id=\"{name}\">")), "{name} is not on the page");
        for (claim, found) in pairs(result).into_iter().filter(|_| concerns(name)) {
            // A time is the host's of the moment; a count is the mechanism.
            if claim.get("time").is_some() || found["verdict"] == "not-judged" {
                continue;
            }
            assert_eq!(found["verdict"], "same-direction", "{name}: {found}\n{text}");
            let text = |key: &str| claim[key].as_str().unwrap_or_default();
            judged.push(format!("{name}: {}: {}", text("setting"), text("count")));
        }
        judged.extend(beside(result, &text, &page));
        // What did not run says why.
        for left_out in list(&result["left_out"]) {
            assert!(left_out[1].as_str().is_some_and(|why| !why.is_empty()), "{left_out}");
        }
        let runs = list(&result["bundle"]["runs"]).filter(|run| run["warm_up"] == false).count();
        let settings: Vec<&Value> = list(&result["experiment"]["setting"]).map(|of| &of["name"]).collect();
        // Beside ours, a tool's row has its name, too.
        let left_out = list(&result["left_out"]).filter(|left_out| settings.contains(&&left_out[0])).count();
        let settings = settings.len();
        let rows = runs / repeat + left_out;
        assert_eq!((rows, runs % repeat), (settings, 0), "{name}: every row runs, or says why not\n{text}");
    }
    judged
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().expect("a list").iter()
}

/// `EXPERIMENT: SETTING: TOOL` for each place where a known tool ran beside ours; both have figures.
fn beside(result: &Value, text: &str, page: &str) -> Vec<String> {
    let (name, beside) = (result["experiment"]["name"].as_str().expect("a name"), &result["beside"]);
    let tool = beside["name"].as_str().unwrap_or_default();
    assert!(page.contains(tool), "{tool} is not on the page");
    let pair = |pair: &Value| {
        for key in ["ours_ns", "tool_ns", "ours_exits", "tool_exits"] {
            // On this host itself nothing exits.
            let native =
                key.ends_with("exits") && pair["setting"].as_str().is_some_and(|of| of.starts_with("native"));
            assert!(native || pair[key].as_f64() > Some(0.0), "{key} of {name}: {pair}\n{text}");
        }
        format!("{name}: {}: {tool}", pair["setting"].as_str().unwrap_or_default())
    };
    beside["pairs"].as_array().into_iter().flatten().map(pair).collect()
}

#[track_caller]
fn held<C: AsRef<str>>(judged: &[String], claims: &[C]) {
    for claim in claims.iter().map(AsRef::as_ref) {
        assert!(judged.iter().any(|judged| judged == claim), "{claim} was not judged: {judged:?}");
    }
}

#[test]
fn the_mechanism_moves_as_every_experiment_claims() {
    // The lab's emulated CPU has time for those whose counts differ there.
    if any_guest().is_none() || in_lab() {
        return;
    }
    // What runs natively runs the known tools, too, where they are.
    let tools = tools().filter(|folder| fs::exists(format!("{folder}/disk.img")).is_ok_and(|there| there));
    let tools = tools.map(|folder| format!("--tools={folder}"));
    let tools: Vec<&str> = tools.as_deref().into_iter().collect();
    // Whether a worker sleeps when one of many threads asks for it is the host's scheduler's matter, too.
    judged_by(7, |_| true, &[&["packets"][..], &tools].concat());
    let judged = judged_by(1, |name| name != "packets", &[&["--all"][..], &tools].concat());
    held(
        &judged,
        &[
            "ipc: built-in kernel, polls: halt exits",
            "ipc: built-in kernel, polls: the guest's ipis",
            "touch: transparent huge pages: page_fault exits",
            "udp: one-way, switch: the guest's left kicks",
            "rr: switch and guests that poll: left halt exits",
            "blk: guest, read, 1, both sides poll: the guest's kicks",
        ],
    );
}

/// What only a Linux guest, or vhost, shows: in the lab. `None`: not here.
fn in_linux(name: &str, only: &[&str]) -> Option<Vec<String>> {
    in_the_lab(name, only, &[])
}

/// The same with the tools that everyone knows in the same places.
fn with_tools(name: &str, only: &[&str]) -> Option<Vec<String>> {
    in_the_lab(name, only, &[&format!("--tools={}", tools().unwrap_or_default())])
}

/// Where `resources/test` has built them.
fn tools() -> Option<String> {
    std::env::var("LAB_DIR").map(|lab| format!("{lab}/image")).ok()
}

fn in_the_lab(name: &str, only: &[&str], more: &[&str]) -> Option<Vec<String>> {
    if !in_lab() {
        return None;
    }
    linux_guest()?;
    let kernel = |kernel: kernels::Kernel| kernel.bzimage.display().to_string();
    let (cloud, rt) = (kernel(kernels::cloud()?), kernel(kernels::rt()?));
    let args = [name, "--kernel", &cloud, "--rt-kernel", &rt];
    let only = only.iter().flat_map(|only| ["--only", only]);
    Some(judged(&args.into_iter().chain(only).chain(more.iter().copied()).collect::<Vec<_>>()))
}

#[test]
fn hand_overs_in_a_linux_guest() {
    let rows = ["kernel, halts", "Linux guest"];
    let Some(judged) = in_linux("ipc", &rows) else { return };
    held(
        &judged,
        &[
            "ipc: Linux guest, polls before it halts: halt exits",
            "ipc: Linux guest, HLT does not exit: halt exits",
            "ipc: Linux guest, low-priority hogs keep its vCPUs from halting: halt exits",
            "ipc: Linux guest, host polls 1 ms: halts: poll attempted",
        ],
    );
}

#[test]
fn huge_pages_save_faults_and_null_calls_exits_in_the_lab() {
    let Some(touch) = in_linux("touch", &[]) else { return };
    let rows = ["transparent huge pages", "pool of 2 MiB pages"];
    held(&touch, &rows.map(|row| format!("touch: {row}: page_fault exits")));
    let null = in_linux("null", &["Linux guest", "built-in kernel"]).unwrap_or_default();
    held(&null, &["null: Linux guest: all exits", "null: built-in kernel, direct call: all exits"]);
}

#[test]
fn vhost_takes_the_kicks_of_requests_and_streams() {
    let Some(rr) = with_tools("rr", &["bridge by"]) else { return };
    held(
        &rr,
        &[
            "rr: Linux guests, TCP, bridge by vhost: left net.0 kicks seen",
            "rr: bridge by vhost: left net.0 kicks seen",
            "rr: Linux guests, TCP, bridge by vhost: sockperf",
        ],
    );
    let bulk = with_tools("bulk", &["bridge by"]).unwrap_or_default();
    held(
        &bulk,
        &[
            "bulk: Linux guests, TCP, bridge by vhost: left net.0 kicks seen",
            "bulk: bridge by vhost: left net.0 kicks seen",
            "bulk: Linux guests, TCP, bridge by vhost: iperf3",
        ],
    );
    let threads = in_linux("bulk-threads", &[]).unwrap_or_default();
    held(&threads, &["bulk-threads: 8 threads: left net.0 kicks seen"]);
}

#[test]
fn vhost_takes_the_kicks_of_pages_and_datagrams() {
    let Some(http) = with_tools("http", &["bridge by"]) else { return };
    held(
        &http,
        &[
            "http: bridge by vhost: left net.0 kicks seen",
            "http: bridge by vhost: left mapped pages 4k",
            "http: bridge by a process: ab",
            "http: bridge by vhost: ab",
        ],
    );
    in_linux("http", &["switch"]);
    held(&in_linux("http-1", &[]).unwrap_or_default(), &["http-1: bridge by vhost: left net.0 kicks seen"]);
    let udp = in_linux("udp", &["500 a second", "by vhost", "Linux guests"]).unwrap_or_default();
    held(&udp, &["udp: one-way, bridge by vhost, 500 a second: left net.0 kicks seen"]);
}

#[test]
fn vhost_takes_the_kicks_of_messages_by_any_number_of_threads() {
    let threads = ["Linux guests, 1 thread", "s, 2 threads", "s, 4 threads", "s, 8 threads", "s, 16 threads"];
    if in_linux("packets", &threads).is_none() {
        return;
    }
    let packets = with_tools("packets", &["32 threads, bridge by"]).unwrap_or_default();
    held(
        &packets,
        &[
            "packets: 32 threads, bridge by vhost: left net.0 kicks seen",
            "packets: Linux guests, 32 threads, bridge by vhost: left net.0 kicks seen",
            "packets: Linux guests, 32 threads, bridge by vhost: redis-benchmark",
        ],
    );
}

#[test]
fn groups_and_disks_of_linux_guests() {
    let Some(host) = in_linux("guest-host", &[]) else { return };
    held(&host, &["guest-host: Linux guest, pinned, HLT does not exit: halt exits"]);
    let groups = with_tools("hackbench", &["Linux guest"]).unwrap_or_default();
    held(
        &groups,
        &["hackbench: Linux guest, 1 vCPU: hackbench", "hackbench: Linux guest, 2 vCPUs: hackbench"],
    );
    let disks = with_tools("blk", &["Linux guest"]).unwrap_or_default();
    held(&disks, &["blk: Linux guest, read, 16: fio", "blk: Linux guest, read, 1: fio"]);
}

#[test]
fn what_is_pinned_or_does_not_halt_in_linux_guests() {
    let Some(jitter) = with_tools("jitter", &["guest"]) else { return };
    held(
        &jitter,
        &[
            "jitter: Linux guest, tuned: halt exits",
            "jitter: PREEMPT_RT guest, tuned: halt exits",
            "jitter: PREEMPT_RT guest, tuned: cyclictest",
        ],
    );
    let linpack = with_tools("linpack", &["Linux guest"]).unwrap_or_default();
    held(
        &linpack,
        &[
            "linpack: Linux guest, pinned: all exits",
            "linpack: Linux guest: stress-ng",
            "linpack: Linux guest, pinned: stress-ng",
        ],
    );
}

#[test]
fn a_tree_is_compiled_in_a_linux_guest() {
    let Some(build) = with_tools("build", &["Linux guest"]) else { return };
    held(&build, &["build: Linux guest, 1 vCPU: page_fault exits"]);
}

#[test]
fn tools_that_are_not_there_say_what_makes_them() {
    let output = repro(&["hackbench", "--tools=/no/such"]);
    assert_eq!(output.status.code(), Some(65));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("/no/such: no tools there; resources/image/build makes them"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    // The folder is looked at first, whatever is asked.
    let output = repro(&["null", "--tools=/no/such"]);
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr)), (Some(65), said));
    // Here is one, and nobody for whom.
    let folder = scratch("tools");
    fs::create_dir_all(folder.join("bin")).expect("a folder");
    fs::write(folder.join("disk.img"), "x").expect("a file");
    let output = repro(&["null", &format!("--tools={}", folder.display())]);
    fs::remove_dir_all(&folder).expect("remove it");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{said}");
    let words = "vmm: --tools: experiment null has none; these have: blk, build, bulk, ";
    assert!(said.starts_with(words) && said.lines().count() == 1, "{said}");
}

#[test]
fn a_machine_that_never_ends_is_a_failed_run_and_the_page_says_so() {
    let Some(_) = any_guest() else { return };
    let (file, json, page) = (scratch("hangs.toml"), scratch("hangs.json"), scratch("hangs.html"));
    let text = r#"
        title = "Hangs"
        source = "nobody"
        compared = "a machine that never ends"
        metric = "jitter late p99"
        mechanism = "none"
        small = {}
        full = {}
        setting = [{ name = "hangs", args = ["--timeout=1", "--workload=jitter,items=1000000"] }]
        claim = [{ setting = "hangs", count = "halt exits", at_most = 1.0 }]
    "#;
    fs::write(&file, text).expect("write a file");
    let outs = [format!("--out=json:{}", json.display()), format!("--out=html:{}", page.display())];
    let output = repro(&[file.to_str().expect("UTF-8"), "--warm-up=0", "--repeat=1", &outs[0], &outs[1]]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let why = "status 83: the time that --timeout gives is up";
    assert!(stderr.contains(&format!("vmm: hangs: {why}")), "{stderr}");
    let read = |path| fs::read_to_string(path).expect("it was written");
    let bundle: Value = serde_json::from_str(&read(&json)).expect("JSON");
    let runs = list(&bundle["experiments"][0]["bundle"]["runs"]).map(|run| run["warm_up"] == true);
    assert_eq!(runs.collect::<Vec<_>>(), [false]);
    assert!(read(&page).contains(&format!("hangs: {why}")), "{}", read(&page));
    [file, json, page].iter().for_each(|path| _ = fs::remove_file(path));
}

#[test]
fn interrupted_it_ends_what_runs_natively_too() {
    // Two hundred million pairs of calls: minutes.
    let mut child = Command::new(binary())
        .args(["repro", "null", "--full", "--only=native", "--yes"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start vmm");
    let mut said = BufReader::new(child.stderr.take().expect("piped"));
    let mut stderr = String::new();
    while !stderr.contains("run 1 of") {
        assert_ne!(said.read_line(&mut stderr).expect("UTF-8"), 0, "it has ended: {stderr}");
    }
    // Its workload has begun, or is about to.
    thread::sleep(Duration::from_millis(200));
    let sent = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(sent.expect("run kill").success());
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("wait for vmm") {
            break status;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "it goes on");
        thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(status.code(), Some(143), "{stderr}");
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
        (&["ipc", "--only", "nonesuch"], 64, "--only nonesuch: no setting has that in its name"),
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
