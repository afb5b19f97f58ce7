//! All processes of a topology, from the first to the last: each machine is one of its own, and so is
//! what carries their frames.

use std::fs::{self, DirBuilder};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::Plan;
use super::error::Error;
use super::file::By;
use super::join::Join;
use super::leftovers;
use super::model::{Interface, Outcome};
use crate::run::signals::{Signals, Wish};
use crate::status::{Failure, Status, say};
use crate::sys::{child, signal};

/// A server has so long until it listens; an emulated host is slow.
const TO_LISTEN: Duration = Duration::from_secs(60);
/// Who was asked to end has so long.
const TO_END: Duration = Duration::from_secs(10);

/// Runs `plan` to its end: what is left of everybody, and the status of the whole.
pub fn run(plan: &Plan) -> Result<(Outcome, Status), Failure> {
    let signals = Signals::take().map_err(|error| make("take", "signals", error))?;
    let folder = Folder::new().map_err(|error| make("make", "a folder for sockets", error))?;
    let join = Join::make(&plan.scene, &folder.0)?;
    let began = Instant::now();
    let mut crowd = Crowd::new(&signals).map_err(|error| make("watch", "processes", error))?;
    let switch_report = folder.0.join("switch.json");
    if let Some(command) = join.server(&plan.scene, &plan.switch, &switch_report) {
        let name = if plan.scene.path.by == By::Switch { "switch" } else { "server" };
        crowd.start(name, Role::Server, command).map_err(|error| make("start", name, error))?;
        crowd.until_it_listens(&plan.scene.path.name, &join.sockets)?;
    }
    let report_of = |at: usize| folder.0.join(format!("{at}.json"));
    for (at, machine) in plan.scene.machines.iter().enumerate() {
        let mut command = Command::new("/proc/self/exe");
        command.args(&plan.flags[at]).arg(format!("--net={}", join.cards[at]));
        command.arg(format!("--report=json:{}", report_of(at).display()));
        let role = if machine.serves { Role::Serving } else { Role::Machine };
        crowd
            .start(&machine.name, role, command)
            .map_err(|error| make("start machine", &machine.name, error))?;
    }
    let status = crowd.attend(plan.timeout).map_err(|error| make("wait for", "processes", error))?;
    let wall = began.elapsed();
    let interfaces: Vec<Interface> = join.interfaces(&plan.scene);
    let read = |path: &Path| -> Option<Value> { serde_json::from_str(&fs::read_to_string(path).ok()?).ok() };
    let machines = (0..plan.scene.machines.len()).map(|at| (crowd.status_of(at), read(&report_of(at))));
    let outcome = Outcome { wall, machines: machines.collect(), switch: read(&switch_report), interfaces };
    Ok((outcome, status))
}

fn make(what: &'static str, object: &str, error: io::Error) -> Error {
    Error::Make { what, object: object.to_owned(), error }
}

/// A folder that nobody else looks into, gone with this.
struct Folder(PathBuf);

impl Folder {
    fn new() -> io::Result<Folder> {
        leftovers::remove_folders();
        let path = leftovers::folder();
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Machine,
    /// Ended when all others have ended.
    Serving,
    /// Carries their frames: ended last.
    Server,
}

struct Process {
    name: String,
    role: Role,
    child: Child,
    readers: Vec<JoinHandle<()>>,
    last_words: Arc<Mutex<String>>,
    status: Option<u8>,
}

/// Everybody, in order of their start.
struct Crowd<'a> {
    signals: &'a Signals,
    epoll: Epoll,
    /// Written by whoever sees a process close its output; which one, is in `gone`.
    bell: EventFd,
    gone: Receiver<usize>,
    tell: Sender<usize>,
    processes: Vec<Process>,
    /// Why all are being ended, and since when.
    ending: Option<(Status, Instant)>,
}

impl<'a> Crowd<'a> {
    fn new(signals: &'a Signals) -> io::Result<Crowd<'a>> {
        let (epoll, bell) = (Epoll::new()?, EventFd::new(EFD_NONBLOCK)?);
        for fd in [bell.as_raw_fd(), signals.as_raw_fd()] {
            epoll.ctl(ControlOperation::Add, fd, EpollEvent::new(EventSet::IN, 0))?;
        }
        let (tell, gone) = mpsc::channel();
        Ok(Crowd { signals, epoll, bell, gone, tell, processes: Vec::new(), ending: None })
    }

    fn start(&mut self, name: &str, role: Role, mut command: Command) -> io::Result<()> {
        // Groups of their own: Ctrl-C is this process's to answer. A server may end with its input.
        command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.stdin(if role == Role::Server { Stdio::piped() } else { Stdio::null() });
        let mut child = child::ends_with_us(&mut command).spawn()?;
        let last_words = Arc::<Mutex<String>>::default();
        let (at, bell, tell) = (self.processes.len(), self.bell.try_clone()?, self.tell.clone());
        let end = move || {
            // Nobody waits any more where nobody listens.
            let _ = tell.send(at);
            let _ = bell.write(1);
        };
        // What carries the frames may talk much: its last words are kept, where it fails.
        let (stdout, stderr): (Box<dyn Write + Send>, Box<dyn Write + Send>) = match role {
            Role::Server => (Box::new(io::sink()), Box::new(io::sink())),
            _ => (Box::new(io::stdout()), Box::new(io::stderr())),
        };
        let readers = vec![
            pass_on(name, child.stdout.take(), stdout, None, end),
            pass_on(name, child.stderr.take(), stderr, Some(last_words.clone()), || ()),
        ];
        self.processes.push(Process {
            name: name.to_owned(),
            role,
            child,
            readers,
            last_words,
            status: None,
        });
        Ok(())
    }

    /// Until all sockets are there, or whoever should make them has ended.
    fn until_it_listens(&mut self, path: &str, sockets: &[PathBuf]) -> Result<(), Error> {
        let deadline = Instant::now() + TO_LISTEN;
        while !sockets.iter().all(|socket| socket.exists()) {
            let ended = matches!(self.processes[0].child.try_wait(), Ok(Some(_)) | Err(_));
            if ended || Instant::now() > deadline {
                self.end_all(Status::Device);
                self.reap(0);
                let server = &self.processes[0];
                let words = server.last_words.lock().unwrap_or_else(PoisonError::into_inner).clone();
                return Err(Error::Silent { path: path.to_owned(), who: server.name.clone(), words });
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Until everybody has ended; the status of the whole.
    fn attend(&mut self, timeout: Option<Duration>) -> io::Result<Status> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            while let Some(wish) = self.signals.next() {
                match wish {
                    Wish::End(number) => self.end_all(Status::Signal(number)),
                    Wish::Stop => signal::stop(),
                    Wish::Continued | Wish::Nothing => {}
                }
            }
            while let Ok(at) = self.gone.try_recv() {
                self.reap(at);
                self.judge(at);
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                self.end_all(Status::Timeout);
            }
            if self.all_ended(|role| role == Role::Machine) {
                self.ask(|role| role == Role::Serving);
            }
            if self.all_ended(|role| role != Role::Server) {
                self.ask(|role| role == Role::Server);
            }
            if self.all_ended(|_| true) {
                return Ok(self.ending.map_or(Status::Guest(0), |(status, _)| status));
            }
            let late = self.ending.map(|(_, since)| since + TO_END);
            if late.is_some_and(|late| late <= Instant::now()) {
                self.kill_all();
            }
            let next = [deadline.filter(|_| self.ending.is_none()), late].into_iter().flatten().min();
            let left = next.map(|next| next.saturating_duration_since(Instant::now()).as_millis() + 1);
            let wait = left.map_or(-1, |left| i32::try_from(left).unwrap_or(i32::MAX));
            match self.epoll.wait(wait, &mut [EpollEvent::default(); 2]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => drop(result?),
            }
            // It only wakes; who has gone is in `gone`.
            let _ = self.bell.read();
        }
    }

    fn all_ended(&self, of: impl Fn(Role) -> bool) -> bool {
        self.processes.iter().filter(|process| of(process.role)).all(|process| process.status.is_some())
    }

    fn ask(&mut self, of: impl Fn(Role) -> bool) {
        let since = Instant::now();
        let mut asked = false;
        let theirs = |process: &&mut Process| of(process.role) && process.status.is_none();
        for process in self.processes.iter_mut().filter(theirs) {
            process.child.stdin = None;
            // It may be at its end already.
            let _ = child::ask_to_end(&process.child);
            asked = true;
        }
        if asked {
            self.ending.get_or_insert((Status::Guest(0), since));
        }
    }

    fn end_all(&mut self, why: Status) {
        match &mut self.ending {
            Some((status @ Status::Guest(0), _)) => *status = why,
            Some(_) => {}
            none => *none = Some((why, Instant::now())),
        }
        self.ask(|role| role != Role::Server);
    }

    fn kill_all(&mut self) {
        for process in self.processes.iter_mut().filter(|process| process.status.is_none()) {
            say(format_args!("{}: did not end in {} s: killed", process.name, TO_END.as_secs()));
            let _ = process.child.kill();
        }
        if let Some((_, since)) = &mut self.ending {
            *since = Instant::now();
        }
    }

    /// Takes the status of one that has closed its output.
    fn reap(&mut self, at: usize) {
        let process = &mut self.processes[at];
        let status = process
            .child
            .wait()
            .map_or(255, |status| status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)));
        process.status = Some(u8::try_from(status).unwrap_or(u8::MAX));
        for reader in process.readers.drain(..) {
            let _ = reader.join();
        }
    }

    /// One that failed, or a server that ended before the others, ends them all.
    fn judge(&mut self, at: usize) {
        let process = &self.processes[at];
        let code = process.status.unwrap_or(0);
        if self.ending.is_some_and(|(status, _)| status != Status::Guest(0)) {
            return;
        }
        let asked = self.ending.is_some() && process.role != Role::Machine;
        let failed = code != 0 || process.role == Role::Server;
        if failed && !asked {
            let words = process.last_words.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let what = if process.role == Role::Server { "" } else { "machine " };
            say(format_args!("{what}{}: ended with status {code}: {words}", process.name));
            self.end_all(if code == 0 { Status::Device } else { Status::of_code(code) });
        }
    }

    /// Of the machine of this number.
    fn status_of(&self, machine: usize) -> u8 {
        let machines = self.processes.iter().filter(|process| process.role != Role::Server);
        machines.skip(machine).find_map(|process| process.status).unwrap_or(0)
    }
}

impl Drop for Crowd<'_> {
    fn drop(&mut self) {
        for process in self.processes.iter_mut().filter(|process| process.status.is_none()) {
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
    }
}

/// Passes a stream on, each line with who says it; keeps the last line of the program's own.
fn pass_on(
    name: &str,
    stream: Option<impl Read + Send + 'static>,
    mut to: impl Write + Send + 'static,
    last: Option<Arc<Mutex<String>>>,
    end: impl FnOnce() + Send + 'static,
) -> JoinHandle<()> {
    let name = name.to_owned();
    std::thread::spawn(move || {
        let mut lines = stream.map(BufReader::new);
        let mut line = Vec::new();
        while let Some(stream) = &mut lines {
            line.clear();
            match stream.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end_matches(['\r', '\n']);
            if let Some(last) = last.as_ref().filter(|_| !text.is_empty()) {
                let own = text.strip_prefix("vmm: ").unwrap_or(text);
                own.clone_into(&mut last.lock().unwrap_or_else(PoisonError::into_inner));
            }
            // A reader that has closed the pipe has read enough.
            let _ = writeln!(to, "{name} | {text}");
        }
        end();
    })
}

/// Longer lines are parted.
const LONGEST_LINE: u64 = 4096;
