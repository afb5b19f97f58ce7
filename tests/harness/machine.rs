//! One run of the binary: arguments in; status, output and report out.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::host;
use super::threads;

/// A run to be: like `Command`, for `vmm`.
#[derive(Clone)]
pub struct Machine {
    /// What starts it, with its own arguments; empty: nothing else.
    through: Vec<OsString>,
    args: Vec<OsString>,
    limit: Duration,
}

/// A run that has ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit status; 128 + n where a signal ended the process itself.
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
    /// The JSON report, where the binary wrote one.
    pub report: Value,
    pub wall: Duration,
}

/// The binary that is tested: what VMM names (`resources/test`: the one that is released), else the one
/// that was built with this test.
pub fn binary() -> PathBuf {
    std::env::var_os("VMM").map_or_else(|| env!("CARGO_BIN_EXE_vmm").into(), PathBuf::from)
}

/// `vmm ARGS…`, to be run.
pub fn vmm<I: IntoIterator<Item = S>, S: Into<OsString>>(args: I) -> Machine {
    // In the lab an emulated CPU runs many times slower.
    let limit = Duration::from_secs(if host::in_lab() { 120 } else { 30 });
    Machine { through: Vec::new(), args: args.into_iter().map(Into::into).collect(), limit }
}

impl Machine {
    /// Adds arguments.
    pub fn args<I: IntoIterator<Item = S>, S: Into<OsString>>(mut self, args: I) -> Machine {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Started by another program, which becomes it.
    pub fn through<I: IntoIterator<Item = S>, S: Into<OsString>>(mut self, program: I) -> Machine {
        self.through = program.into_iter().map(Into::into).collect();
        self
    }

    /// A run that takes longer than this is killed, and the test fails.
    pub fn limit(mut self, limit: Duration) -> Machine {
        self.limit = limit;
        self
    }

    /// Runs it to its end, with nothing on standard input.
    pub fn run(&self) -> Ended {
        self.spawn().end()
    }

    /// Starts it. Its report goes to a file of its own; what it says of that kind on stderr stays.
    pub fn spawn(&self) -> Running {
        let report = scratch("report.json");
        let mut words = self.through.iter().cloned().chain([binary().into()]);
        let mut child = Command::new(words.next().expect("at least itself"))
            .args(words)
            .args(&self.args)
            .arg("--report")
            .arg(format!("json:{}", report.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start vmm");
        let stdout = Gathered::new(child.stdout.take().expect("piped"));
        let stderr = Gathered::new(child.stderr.take().expect("piped"));
        let stdin = child.stdin.take();
        Running {
            child,
            stdin,
            stdout,
            stderr,
            report,
            began: Instant::now(),
            limit: self.limit,
            given_up: false,
        }
    }
}

/// A run that goes on.
pub struct Running {
    child: Child,
    /// Dropped, it is at its end.
    pub stdin: Option<ChildStdin>,
    stdout: Gathered,
    stderr: Gathered,
    report: PathBuf,
    began: Instant,
    limit: Duration,
    /// What it said and did is known.
    given_up: bool,
}

impl Running {
    /// The process, for /proc.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU time of all its threads so far.
    pub fn cpu(&self) -> Duration {
        threads::cpu(self.pid())
    }

    /// Sends a signal by its name: `INT`, `TERM`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(sent.expect("run kill").success(), "kill -{name}");
    }

    /// Types on the guest's console.
    pub fn press(&mut self, keys: &str) {
        let stdin = self.stdin.as_mut().expect("its input is open");
        stdin.write_all(keys.as_bytes()).expect("type");
    }

    /// Waits until the guest's console has shown `text`.
    pub fn until(&mut self, text: &str) {
        self.until_times(text, 1);
    }

    /// Waits until the guest's console has shown `text` so many times.
    pub fn until_times(&mut self, text: &str, times: usize) {
        if !self.shows(text, times) {
            let said = self.give_up();
            panic!("no {text:?} on the console:\n{said}");
        }
    }

    /// The same; `false` where it ends, or its time does, before that.
    pub fn shows(&mut self, text: &str, times: usize) -> bool {
        self.comes_to(|console| console.matches(text).count() >= times)
    }

    /// Waits until what the console has shown is as `wanted`; `false` where it ends, or its time does, before
    /// that.
    pub fn comes_to(&mut self, wanted: impl Fn(&str) -> bool) -> bool {
        let shown = |stdout: &Gathered| wanted(&stdout.text());
        while !shown(&self.stdout) {
            let over =
                self.child.try_wait().expect("wait for vmm").is_some() || self.began.elapsed() > self.limit;
            if over {
                return shown(&self.stdout);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }

    /// Waits for the end of it.
    pub fn end(mut self) -> Ended {
        self.stdin = None;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("wait for vmm") {
                break status;
            }
            if self.began.elapsed() > self.limit {
                let said = self.give_up();
                panic!("still running after {:?}:\n{said}", self.limit);
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let report = self.take_report();
        Ended {
            status: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            wall: self.began.elapsed(),
            stdout: self.stdout.all(),
            stderr: self.stderr.all(),
            report: report
                .map_or(Value::Null, |text| serde_json::from_slice(&text).expect("the report is JSON")),
        }
    }

    fn take_report(&self) -> Option<Vec<u8>> {
        let report = std::fs::read(&self.report).ok();
        let _ = std::fs::remove_file(&self.report);
        report
    }

    fn goes_on(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_none())
    }

    /// Ends a machine that is not where it should be: what it has said, what its threads do, its report.
    fn give_up(&mut self) -> String {
        self.given_up = true;
        let threads = if self.goes_on() { threads::busy(self.pid()) } else { String::new() };
        let _ = Command::new("kill").args(["-TERM", &self.pid().to_string()]).status();
        let asked = Instant::now();
        while self.goes_on() && asked.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = (self.child.kill(), self.child.wait());
        let report = self.take_report().unwrap_or_default();
        let (console, said) = (self.stdout.text(), self.stderr.text());
        format!("{console}\n{said}\n{threads}{}", String::from_utf8_lossy(&report))
    }
}

/// A test that ends by a panic leaves none behind, to be counted by the next, and says what became of the others.
impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.given_up {
            eprintln!("another machine:\n{}", self.give_up());
        }
        let _ = (self.child.kill(), self.child.wait());
    }
}

impl Ended {
    /// Asserts how the guest and the process ended.
    #[track_caller]
    pub fn expect(&self, end: &str, status: i32) -> &Ended {
        let ended = (self.report["guest"]["end"].as_str(), self.status);
        assert_eq!(ended, (Some(end), status), "\n{}\n{}", self.stdout, self.stderr);
        self
    }

    /// Asserts a run that never became a machine: this status, and one line that holds `words`.
    #[track_caller]
    pub fn expect_refusal(&self, status: i32, words: &str) -> &Ended {
        assert_eq!((self.status, self.stdout.as_str()), (status, ""), "{}", self.stderr);
        assert!(self.stderr.contains(words), "no {words:?} in: {}", self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }

    /// The first record of a workload.
    #[track_caller]
    pub fn record(&self, workload: &str) -> &Value {
        let records = self.report["records"].as_array().expect("records");
        let one = records.iter().find(|record| record["workload"] == workload);
        one.unwrap_or_else(|| panic!("no record of {workload}: {records:#?}\n{}", self.stderr))
    }

    /// A number of a workload that went well, or what it has done: `ops`.
    #[track_caller]
    pub fn value(&self, workload: &str, name: &str) -> u64 {
        let record = self.record(workload);
        assert_eq!(record["outcome"], "ok", "{workload}");
        let value = if name == "ops" { &record["ops"] } else { &record["values"][name] };
        value.as_u64().unwrap_or_else(|| panic!("no {name} in {record}"))
    }

    /// Exits to the monitor in the phase of a workload.
    #[track_caller]
    pub fn returns(&self, workload: &str) -> u64 {
        let phases = self.report["phases"].as_array().expect("phases");
        let phase = phases.iter().find(|phase| phase["name"] == workload).expect("the phase");
        let rows = phase["exits"]["userspace"].as_array().expect("rows");
        rows.iter().map(|row| row["count"].as_u64().expect("a count")).sum()
    }
}

/// A stream, read as it comes.
struct Gathered {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Gathered {
    fn new(mut stream: impl Read + Send + 'static) -> Gathered {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let into = bytes.clone();
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                into.lock().expect("no panic while held").extend_from_slice(&buffer[..count]);
            }
        });
        Gathered { bytes, reader: Some(reader) }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().expect("no panic while held")).into_owned()
    }

    /// Everything, to the end of the stream.
    fn all(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader does not panic");
        }
        self.text()
    }
}

/// A path for a file of this test alone.
pub fn scratch(name: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("vmm-test-{}-{number}-{name}", std::process::id()))
}
