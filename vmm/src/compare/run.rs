//! One run: a process of this same program, so that a crash costs one cell and no more.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::Instant;

use serde_json::Value;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

use super::bundle::{Kind, Metric, Row, Run, Setting};
use super::ledger;
use super::metric::{Measured, Pattern};
use super::plan::Turn;
use crate::run::signals::{Signals, Wish};
use crate::status::Status;
use crate::sys::{child, signal};
use crate::topology;

/// Most that is kept of what a guest writes to its console: its beginning.
const MOST_OUTPUT: usize = 16 << 20;

/// How a run has ended.
pub enum Done {
    Run {
        run: Box<Run>,
        metrics: Vec<Metric>,
    },
    /// A signal of this number asks for the end of everything.
    Interrupted(u8),
}

/// Runs `setting` once.
pub fn run(setting: &Setting, turn: Turn, patterns: &[Pattern], signals: &Signals) -> io::Result<Done> {
    let report = std::env::temp_dir().join(format!("vmm-compare-{}.json", std::process::id()));
    // Behind another program, its own name is what that program has.
    let program =
        if setting.within.is_empty() { PathBuf::from("/proc/self/exe") } else { std::env::current_exe()? };
    let mut words = setting.within.iter().map(OsString::from).chain([program.into_os_string()]);
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).args(&setting.args);
    if !setting.native {
        command.arg("--report").arg(format!("json:{}", report.display()));
    }
    // In a group of its own: Ctrl-C is this process's to answer.
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let began = Instant::now();
    let ended = attend(command.spawn()?, setting.native, signals);
    let wall_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    let text = take(&report);
    match ended? {
        Attended::Interrupted(number) => Ok(Done::Interrupted(number)),
        Attended::Ended { status, stdout, stderr } => {
            let output = Output { status, stdout, stderr, report: text, wall_us };
            Ok(evaluate(setting, turn, patterns, output))
        }
    }
}

/// A file's text; the file is gone.
fn take(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok();
    // It may never have been there.
    let _ = fs::remove_file(path);
    text
}

/// What a process has left.
struct Output {
    status: ExitStatus,
    stdout: String,
    stderr: String,
    report: Option<String>,
    wall_us: u64,
}

fn evaluate(setting: &Setting, turn: Turn, patterns: &[Pattern], output: Output) -> Done {
    let status = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0));
    let report: Value = output.report.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let (measured, rows, load) = if setting.native {
        let (measured, counts) = Measured::of_native(&output.stdout);
        let row = |(name, count): (String, u64)| Row {
            kind: Kind::Guest,
            name,
            count: i64::try_from(count).unwrap_or(i64::MAX),
            ns: None,
        };
        (measured, counts.into_iter().map(row).collect(), None)
    } else if report["schema"] == topology::SCHEMA {
        (Measured::of_topology(&report), ledger::rows_of_topology(&report), ledger::load_of_topology(&report))
    } else {
        (Measured::of_report(&report), ledger::rows(&report), ledger::load(&report))
    };
    let Measured { mut metrics, ops, failed } = measured;
    let mut failed = match status {
        0 if !setting.native && report.is_null() => Some("it wrote no report".to_owned()),
        0 => failed,
        _ => Some(last_words(&output.stderr, status)),
    };
    let own: Vec<Pattern> = setting.figures.iter().filter_map(|text| text.parse().ok()).collect();
    for pattern in patterns.iter().chain(&own) {
        match pattern.find(&output.stdout) {
            Some(value) => metrics.push((pattern.metric(), value)),
            None if failed.is_none() => {
                failed = Some(format!("--metric {}: no match on its console", pattern.name))
            }
            None => {}
        }
    }
    // The times of a run that went wrong are not those of the setting.
    if status != 0 {
        metrics.clear();
    }
    let run = Run {
        host: 0,
        setting: turn.setting,
        round: turn.round,
        warm_up: turn.warm_up,
        failed,
        status: u8::try_from(status).unwrap_or(u8::MAX),
        wall_us: output.wall_us,
        metrics: metrics.iter().map(|(metric, value)| (metric.name.clone(), *value)).collect(),
        ops,
        rows,
        load,
    };
    Done::Run { run: Box::new(run), metrics: metrics.into_iter().map(|(metric, _)| metric).collect() }
}

/// The last line that the program said itself.
fn last_words(stderr: &str, status: i32) -> String {
    let line = stderr.lines().rev().find_map(|line| line.strip_prefix("vmm: "));
    match line {
        Some(line) => format!("status {status}: {line}"),
        // Several machines leave it to their report.
        None if status == i32::from(Status::Timeout.code()) => {
            format!("status {status}: the time that --timeout gives is up")
        }
        None => format!("status {status}"),
    }
}

enum Attended {
    Ended { status: ExitStatus, stdout: String, stderr: String },
    Interrupted(u8),
}

/// Waits for a child's end without ever waking up: what waits must not take time from what is measured.
fn attend(mut child: Child, native: bool, signals: &Signals) -> io::Result<Attended> {
    let ended = EventFd::new(0)?;
    let stdout = gather(child.stdout.take(), Some(ended.try_clone()?));
    let stderr = gather(child.stderr.take(), None);
    let end = wait(&ended, signals);
    if !matches!(end, Ok(None)) {
        // It may be at its end already. Asked, a topology ends its machines and removes its interfaces. A
        // workload has nothing to remove, and the first process of a container can't be asked.
        let _ = if native { child::end_group(&child) } else { child::ask_to_end(&child) };
    }
    let status = child.wait()?;
    let text = |reader: JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&reader.join().unwrap_or_default()).into_owned()
    };
    let (stdout, stderr) = (text(stdout), text(stderr));
    Ok(match end? {
        Some(number) => Attended::Interrupted(number),
        None => Attended::Ended { status, stdout, stderr },
    })
}

/// Until `ended`; the signal's number, if one came first.
fn wait(ended: &EventFd, signals: &Signals) -> io::Result<Option<u8>> {
    use std::os::fd::AsRawFd;
    let epoll = Epoll::new()?;
    for (fd, word) in [(ended.as_raw_fd(), 0), (signals.as_raw_fd(), 1)] {
        epoll.ctl(ControlOperation::Add, fd, EpollEvent::new(EventSet::IN, word))?;
    }
    loop {
        while let Some(wish) = signals.next() {
            match wish {
                Wish::End(number) => return Ok(Some(number)),
                Wish::Stop => signal::stop(),
                Wish::Continued | Wish::Nothing => {}
            }
        }
        let mut events = [EpollEvent::default(); 2];
        let count = match epoll.wait(-1, &mut events) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };
        if events.iter().take(count).any(|event| event.data() == 0) {
            return Ok(None);
        }
    }
}

/// Reads a stream to its end, says so, and keeps the beginning.
fn gather(stream: Option<impl Read + Send + 'static>, done: Option<EventFd>) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        if let Some(mut stream) = stream {
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                kept.extend_from_slice(&buffer[..count.min(MOST_OUTPUT - kept.len())]);
            }
        }
        if let Some(done) = done {
            // An event that cannot be written is one that is pending already.
            let _ = done.write(1);
        }
        kept
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluated(code: i32, stdout: &str, stderr: &str, report: Option<&str>, patterns: &[&str]) -> Run {
        let setting =
            Setting { name: "a".into(), args: vec![], native: false, within: vec![], figures: vec![] };
        let patterns: Vec<Pattern> = patterns.iter().map(|text| text.parse().unwrap()).collect();
        let output = Output {
            status: ExitStatus::from_raw(code << 8),
            stdout: stdout.into(),
            stderr: stderr.into(),
            report: report.map(str::to_owned),
            wall_us: 7,
        };
        let turn = Turn { setting: 0, round: 3, warm_up: false };
        match evaluate(&setting, turn, &patterns, output) {
            Done::Run { run, .. } => *run,
            Done::Interrupted(_) => unreachable!("no signal"),
        }
    }

    #[test]
    fn a_run_that_fails_says_why_and_gives_no_time() {
        let report = r#"{"time": {"wall_us": 5}}"#;
        let run = evaluated(80, "", "noise\nvmm: the guest panicked\n", Some(report), &[]);
        assert_eq!((run.status, run.failed.as_deref()), (80, Some("status 80: the guest panicked")));
        assert!(run.metrics.is_empty());
        assert_eq!(evaluated(0, "", "", None, &[]).failed.as_deref(), Some("it wrote no report"));
        let run = evaluated(0, "x 5", "", Some(report), &["x=x ([0-9]+)", "y=y ([0-9]+)"]);
        assert_eq!(run.failed.as_deref(), Some("--metric y: no match on its console"));
        assert_eq!((run.metrics["x"], run.metrics["wall time"]), (5.0, 5000.0));
    }
}
