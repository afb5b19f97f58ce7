//! A machine that is looked at while it runs: `--report live`, and `vmm top`.

mod harness;

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use harness::host::any_guest;
use harness::machine::{binary, vmm};
use harness::terminal::Terminal;
use harness::tiny::{Tiny, outs, spin};

/// A guest that does nothing but write a port, longer than any test takes.
fn busy() -> Tiny {
    Tiny::new(&[outs(0x61, u32::MAX), spin()].concat())
}

fn top(arguments: &[&str]) -> Output {
    Command::new(binary()).arg("top").args(arguments).output().expect("run vmm top")
}

/// Waits for what `vmm top` shows of a machine that may not have begun to listen.
fn top_of(pid: &str, count: &str) -> Output {
    let began = Instant::now();
    loop {
        let shown = top(&[pid, "--count", count]);
        if shown.status.success() || began.elapsed() > Duration::from_secs(60) {
            return shown;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn somebody_looks_from_another_terminal() {
    let Some(_) = any_guest() else { return };
    let guest = busy();
    let running = vmm(guest.args()).args(["--memory", "32M"]).spawn();
    let pid = running.pid().to_string();
    let shown = top_of(&pid, "2");
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert_eq!(text.matches(&format!("vmm {pid} · KVM ")).count(), 2, "{text}");
    let row = text.lines().find(|line| line.ends_with("io-write port 0x61"));
    let rate = row.and_then(|row| row.split_whitespace().next()).map(|rate| rate.replace(',', ""));
    assert!(rate.and_then(|rate| rate.parse::<u64>().ok()).is_some_and(|rate| rate > 0), "{text}");
    // By its socket's name, until it ends.
    let until_end = Command::new(binary())
        .args(["top", &format!("@vmm/{pid}")])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("run vmm top");
    std::thread::sleep(Duration::from_millis(500));
    running.signal("TERM");
    let ended = running.end();
    ended.expect("signal", 143);
    let shown = until_end.wait_with_output().expect("its output");
    assert!(shown.status.success() && shown.stdout.ends_with(b"the machine has ended\n"), "{shown:?}");
}

#[test]
fn each_look_interrupts_a_guest_that_runs() {
    let Some(_) = any_guest() else { return };
    let guest = Tiny::new(&spin());
    let running = vmm(guest.args()).args(["--memory", "32M"]).spawn();
    assert!(top_of(&running.pid().to_string(), "2").status.success());
    running.signal("TERM");
    let ended = running.end();
    ended.expect("signal", 143);
    let rows = ended.report["exits"]["userspace"].as_array().expect("rows");
    let interrupted = rows.iter().find(|row| row["reason"] == "interrupted");
    assert!(interrupted.is_some_and(|row| row["count"].as_u64() >= Some(2)), "{rows:#?}");
}

#[test]
fn a_log_of_its_own_rates() {
    let Some(_) = any_guest() else { return };
    let guest = busy();
    let machine = vmm(guest.args()).args(["--memory", "32M", "--report", "live", "--timeout", "4"]);
    let ended = machine.run();
    ended.expect("timeout", 83);
    let lines: Vec<&str> = ended.stderr.lines().filter(|line| line.contains(" exits/s · ")).collect();
    assert!(
        !lines.is_empty() && lines.iter().all(|line| line.contains("io-write port 0x61")),
        "{}",
        ended.stderr
    );
}

#[test]
fn one_terminal_for_console_and_rates() {
    let Some(_) = any_guest() else { return };
    let guest = busy();
    let terminal = Terminal::open();
    let mut command = Terminal::session(binary());
    command.args(guest.args()).args(["--memory", "32M", "--report", "live"]);
    let mut child = terminal.start(command);
    terminal.until_shows("the console has this terminal; from another: vmm top ");
    terminal.until("raw mode", || terminal.is_raw());
    terminal.type_in(b"\x01x");
    assert_eq!(terminal.status(&mut child), Some(0));
    // Without a console the rates have it.
    let terminal = Terminal::open();
    let mut command = Terminal::session(binary());
    command.args(guest.args()).args([
        "--memory",
        "32M",
        "--report",
        "live",
        "--console",
        "none",
        "--timeout",
        "6",
    ]);
    let mut child = terminal.start(command);
    terminal.until_shows("io-write port 0x61");
    assert_eq!(terminal.status(&mut child), Some(83));
}

#[test]
fn what_is_no_machine_is_said() {
    for (who, words) in [
        (std::process::id().to_string(), "it is no vmm that runs a machine"),
        ("4294967295".into(), "no such process"),
        ("@no/such/socket".into(), "look at machine @no/such/socket: "),
    ] {
        let shown = top(&[&who]);
        let said = String::from_utf8_lossy(&shown.stderr).into_owned();
        assert_eq!(shown.status.code(), Some(66), "{said}");
        assert!(said.contains(words) && said.lines().count() == 1, "{said}");
    }
    for wrong in [["x"].as_slice(), &["@"], &["-1"], &["--vcpus", "2"], &[]] {
        assert_eq!(top(wrong).status.code(), Some(64), "{wrong:?}");
    }
}
