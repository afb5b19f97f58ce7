//! `vmm topology` and `vmm compare --topology`: several machines as a user runs them, judged by the one
//! report that they leave.

mod harness;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use harness::host::{any_guest, in_lab, skip};
use harness::machine::{binary, scratch};
use serde_json::Value;

/// A whole run: its output, and its report.
struct Whole {
    output: Output,
    report: Value,
}

impl Whole {
    #[track_caller]
    fn expect(&self, status: i32) -> &Whole {
        assert_eq!(self.output.status.code(), Some(status), "{}", self.said());
        self
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    /// A number of the first record of a machine.
    #[track_caller]
    fn value(&self, machine: &str, name: &str) -> u64 {
        let machines = self.report["machines"].as_array().expect("machines");
        let one = machines.iter().find(|one| one["name"] == machine).expect("the machine");
        let record = &one["report"]["records"][0];
        assert_eq!(record["outcome"], "ok", "{machine}: {}", self.said());
        let value = if name == "ops" { &record["ops"] } else { &record["values"][name] };
        value.as_u64().unwrap_or_else(|| panic!("{machine}: no {name} in {record}"))
    }

    /// A column of the ledger, over all rows of this place.
    fn sum(&self, who: &str, at: &str, queue: &str, column: &str) -> u64 {
        let rows = self.report["ledger"].as_array().expect("a ledger").iter();
        let rows = rows.filter(|row| row["who"] == who && row["at"] == at);
        let rows = rows.filter(|row| row["queue"].as_str().is_some_and(|name| name.starts_with(queue)));
        rows.filter_map(|row| row[column].as_u64()).sum()
    }
}

fn topology(args: &[&str]) -> Whole {
    let report = scratch("topology.json");
    let limit = if in_lab() { "110" } else { "28" };
    let output = Command::new(binary())
        .args(["topology", "--timeout", limit, "--report", &format!("json:{}", report.display())])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("run vmm");
    let text = fs::read_to_string(&report).unwrap_or_default();
    _ = fs::remove_file(&report);
    Whole { output, report: serde_json::from_str(&text).unwrap_or_default() }
}

/// A file that goes with this.
struct File(PathBuf);

impl File {
    fn new(text: &str) -> File {
        let path = scratch("own.toml");
        fs::write(&path, text).expect("write a file");
        File(path)
    }

    fn name(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        _ = fs::remove_file(&self.0);
    }
}

#[test]
fn what_is_no_topology_is_said_in_one_line() {
    let machine = "title = 'x'\n[[machine]]\nname = 'a'\nmemory = '64M'\nworkload = 'ready'\n";
    let own = |more: &str| File::new(&format!("{machine}{more}\n[[path]]\nname = 'p'\nby = 'switch'\n"));
    let files = [
        (own("memroy = '1G'"), 65, "machine a: memroy: no such key; did you mean memory?"),
        (own("vcpus = 0"), 65, "machine a: --vcpus 0"),
        (own("vcpus = 300"), 65, "machine a: --vcpus 300"),
        (own("net = 'tap=x'"), 65, "net and report are the topology's own"),
        (own("cmdline = '{nonesuch}'"), 65, "{nonesuch}: no such value"),
        (own("pin = '0@900'"), 64, "machine a: ended with status 64: --pin 0@900: this host has no CPU 900"),
        (File::new("title ="), 65, "line 1: "),
        (File::new(machine), 65, "has no path"),
        (
            File::new(&format!("{machine}[[path]]\nname = 'p'\nby = 'switch'\nswitch = {{ full = 'x' }}")),
            65,
            "--full x",
        ),
    ];
    let cases = files.iter().map(|(file, status, words)| (vec![file.name()], *status, *words));
    let named = [
        (vec!["rrr"], 64, "topology rrr: no such topology; did you mean rr?"),
        (vec!["no/such.toml"], 65, "topology no/such.toml: no such file"),
        (
            vec!["rr", "--path", "swich"],
            64,
            "--path swich: topology rr has no such path; did you mean switch?",
        ),
        (vec!["rr", "--set", "sise=1"], 64, "--set sise: topology rr has no such value; did you mean size?"),
        (vec!["rr", "--set", "sise"], 64, "--set sise: not of the form KEY=VALUE"),
        (vec!["rr", "--report", "yaml"], 64, "--report yaml"),
        (vec!["--path", "switch"], 64, "NAME"),
    ];
    let guests = any_guest().is_some();
    for (args, status, words) in cases.chain(named) {
        if status == 64 && words.starts_with("machine") && !guests {
            continue;
        }
        let whole = topology(&args);
        let said = whole.expect(status).said();
        let last = said.lines().last().unwrap_or_default();
        assert!(said.contains(words) && !said.contains("panicked"), "{args:?}: {said}");
        assert!(last.starts_with("vmm: ") && (status == 64 || said.lines().count() == 1), "{args:?}: {said}");
    }
    let list = Command::new(binary()).arg("topology").output().expect("run vmm");
    assert!(list.status.success() && String::from_utf8_lossy(&list.stdout).contains("udp-one-way: "));
}

/// What `udp-one-way` by the switch must have done, at so many datagrams to a batch.
fn accounted(whole: &Whole, items: u64) {
    let sent = whole.value("left", "ops");
    let arrived = whole.value("right", "ops");
    assert_eq!(sent + whole.value("left", "dropped"), items);
    // Beside the datagrams, the question for the address and its answer.
    let (taken, given) =
        (whole.sum("switch", "left", "send", "packets"), whole.sum("switch", "right", "receive", "packets"));
    assert!((sent..=sent + 3).contains(&taken), "{taken} of {sent}");
    let dropped: u64 = ["left", "right"]
        .iter()
        .flat_map(|port| ["send", "receive"].map(|queue| whole.sum("switch", port, queue, "dropped")))
        .sum();
    assert_eq!(given + dropped, taken, "what it took, it gave or dropped");
    let missed = whole.value("right", "missed");
    assert!((arrived + missed..=arrived + missed + 3).contains(&given), "{arrived} + {missed} of {given}");
}

#[test]
fn polled_machines_at_a_polling_switch_take_no_exit() {
    if any_guest().is_none() {
        return;
    }
    let items = 4000;
    let set = format!("items={items}");
    // Longer than the test: it never sleeps.
    let whole = topology(&[
        "udp-one-way",
        "--path=switch",
        "--set",
        &set,
        "--set=busy-poll=1000000",
        "--set=size=200",
    ]);
    whole.expect(0);
    accounted(&whole, items);
    assert_eq!((whole.value("left", "interrupts"), whole.value("right", "interrupts")), (0, 0));
    // One at the start, before the switch has seen the ring.
    assert!(whole.value("left", "kicks") + whole.value("right", "kicks") <= 4, "{}", whole.report["ledger"]);
    // Three that poll on fewer CPUs take turns by the switch's naps, or not within this test's time.
    if std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() < 3) {
        assert!(
            whole.report["switch"]["workers"][0]["naps"].as_u64() > Some(0),
            "{}",
            whole.report["switch"]
        );
    }
    // Before its first peer came, at the most.
    assert!(whole.report["switch"]["workers"][0]["sleeps"].as_u64().is_some_and(|sleeps| sleeps <= 2));
    let more = topology(&[
        "udp-one-way",
        "--path=switch",
        "--set=items=400",
        "--set=busy-poll=1000000",
        "--set=size=200",
    ]);
    let returns = |whole: &Whole, at: usize| -> u64 {
        let report = &whole.report["machines"][at]["report"];
        let phases = report["phases"].as_array().expect("phases");
        let phase =
            phases.iter().find(|phase| phase["name"].as_str().is_some_and(|name| name.starts_with("udp")));
        let rows = phase.expect("the phase")["exits"]["userspace"].as_array().expect("rows");
        // A driver that resets its card looks until the switch, which has its turns, has given the rings back.
        let looks = |row: &&Value| row["target"] == "net.0 DEVICE_STATUS" && row["reason"] == "mmio-read";
        rows.iter().filter(|row| !looks(row)).filter_map(|row| row["count"].as_u64()).sum()
    };
    // What is left is bringing the card up, and the record: the same for ten times the datagrams.
    for at in [0, 1] {
        let (few, many) = (returns(more.expect(0), at), returns(&whole, at));
        assert!(few.abs_diff(many) <= 8, "{few} and {many}");
    }
}

#[test]
fn a_receiver_that_polls_paces_its_sender_and_misses_nothing() {
    if any_guest().is_none() {
        return;
    }
    // Many times what a ring holds: both wait for the other's turns.
    let items = 40_000;
    let set = format!("items={items}");
    let args = ["udp-one-way", "--path=switch", "--set", &set, "--set=busy-poll=1000000", "--set=full=wait"];
    let whole = topology(&args);
    whole.expect(0);
    accounted(&whole, items);
    assert_eq!((whole.value("left", "dropped"), whole.value("right", "missed")), (0, 0));
    // One that had no turn for a second counts as stalled, and loses some: on a very busy host.
    let lost = whole.sum("switch", "right", "receive", "dropped");
    assert_eq!(whole.value("right", "ops") + lost, items, "{}", whole.report["ledger"]);
}

#[test]
fn machines_that_sleep_are_woken_once_a_batch() {
    if any_guest().is_none() {
        return;
    }
    let items = 6400;
    let set = format!("items={items}");
    let args = [
        "udp-one-way",
        "--path=switch",
        "--set",
        &set,
        "--set=net=irq",
        "--set=batch=64",
        "--set=busy-poll=0",
    ];
    let whole = topology(&args);
    whole.expect(0);
    accounted(&whole, items);
    let at_most = items / 64 + 8;
    for side in ["left", "right"] {
        assert!(whole.value(side, "interrupts") <= at_most, "{side}: {}", whole.value(side, "interrupts"));
    }
    assert!(whole.value("left", "kicks") <= at_most, "{}", whole.value("left", "kicks"));
}

#[test]
fn a_request_is_answered_by_every_path_that_this_host_can_do() {
    if any_guest().is_none() {
        return;
    }
    let csv = scratch("paths.csv");
    let out = format!("csv:{}", csv.display());
    let json = scratch("paths.json");
    let output = Command::new(binary())
        .args([
            "compare",
            "--topology=rr",
            "--set=items=20",
            "--set=net=irq",
            "--set=busy-poll=0",
            "--repeat=1",
        ])
        .args(["--warm-up=0", "--out", &out, "--out", &format!("json:{}", json.display())])
        .output()
        .expect("run vmm");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let bundle: Value = serde_json::from_str(&fs::read_to_string(&json).expect("read")).expect("JSON");
    let names = |list: &str| -> Vec<String> {
        let list = bundle[list].as_array().expect("a list");
        list.iter().map(|one| one["name"].as_str().expect("a name").to_owned()).collect()
    };
    let (ran, skipped) = (names("settings"), names("skipped"));
    assert!(ran.contains(&"path=switch".to_owned()) && ran.contains(&"path=switch-4".to_owned()), "{ran:?}");
    assert_eq!(ran.len() + skipped.len(), 7, "{ran:?} {skipped:?}");
    for name in &skipped {
        assert!(said.contains(&format!("{name}: skipped: ")), "{said}");
    }
    let runs = bundle["runs"].as_array().expect("runs");
    assert_eq!(runs.len(), ran.len());
    for run in runs {
        assert_eq!((&run["failed"], &run["ops"]), (&Value::Null, &Value::from(20)), "{run}");
        assert!(run["metrics"]["rr through"].as_f64().is_some(), "{run}");
    }
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(table.contains("rr through") && table.contains("\nso  "), "{table}");
    assert!(fs::read_to_string(&csv).expect("read").contains(",rr through,"));
    _ = (fs::remove_file(&csv), fs::remove_file(&json));
    let left = Command::new("ip").args(["-br", "link"]).output();
    let left = left.map_or(String::new(), |output| String::from_utf8_lossy(&output.stdout).into_owned());
    assert!(!left.contains("vmb"), "a bridge is left: {left}");
}

/// Processes that `parent` has started and that have not ended.
fn children(parent: u32) -> Vec<u32> {
    let numbers = fs::read_dir("/proc").expect("/proc").flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(|&number| running(number) == Some(parent)).collect()
}

/// Whose child a process is that runs.
fn running(number: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    fields.next().filter(|state| *state != "Z")?;
    fields.next()?.parse().ok()
}

#[track_caller]
fn soon(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..if in_lab() { 6000 } else { 2000 } {
        if so() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("it did not happen: {what}");
}

/// What a topology of this number has made and not removed.
fn left(number: u32) -> Vec<String> {
    let folder = std::env::temp_dir().join(format!("vmm-topology-{number}"));
    let interfaces = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let names = interfaces.filter_map(|entry| entry.file_name().into_string().ok());
    let ours =
        names.filter(|name| name.starts_with(&format!("vmt{number}x")) || *name == format!("vmb{number}"));
    ours.chain(folder.exists().then(|| folder.display().to_string())).collect()
}

#[test]
fn one_that_is_killed_takes_its_machines_along_and_the_next_removes_what_it_left() {
    if any_guest().is_none() {
        return;
    }
    for (path, processes, things) in [("bridge", 2, 4), ("switch", 3, 1)] {
        let by = format!("--path={path}");
        let few = ["udp-one-way", &by, "--set=net=irq", "--set=busy-poll=0", "--set=items=10"];
        let first = topology(&few);
        if path == "bridge" && first.output.status.code() != Some(0) {
            skip(&format!("taps can't be made: {}", first.said().lines().last().unwrap_or_default()));
            continue;
        }
        first.expect(0);
        let mut endless = Command::new(binary())
            .args(["topology", "--report=none", "udp-one-way", &by, "--set=net=irq", "--set=busy-poll=0"])
            .args(["--set=items=1000000000", "--set=rate=1000"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("run vmm");
        let number = endless.id();
        soon("all run", || children(number).len() == processes);
        let machines = children(number);
        endless.kill().expect("kill");
        endless.wait().expect("wait");
        soon("its machines end", || machines.iter().all(|&machine| running(machine).is_none()));
        assert_eq!(left(number).len(), things, "{:?}", left(number));
        topology(&few).expect(0);
        assert_eq!(left(number), [""; 0]);
    }
}
