//! `vmm switch`: one switch from its flags to its exit status.
//!
//! - [`sockets`]  where its ports listen
//! - [`model`]    what it did, as data; JSON is this, written down
//! - [`text`]     the same for people

mod model;
mod sockets;
mod text;

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use devices::switch::{self, Full, Switch};
use vmm_sys_util::poll::PollContext;

use crate::config::Report;
use crate::report::{json, write};
use crate::run::affinity;
use crate::sandbox::{Needed, Sandbox, Who};
use crate::status::{Failure, Fatal, Status, say};
use crate::sys::{affinity as cpus, signal};

/// A switch, every flag resolved.
#[derive(Clone, Debug)]
pub struct Plan {
    /// 2 to 64, no two the same.
    pub ports: Vec<PathBuf>,
    /// A worker on each; none: one worker, on any.
    pub cpus: Vec<u16>,
    pub busy_poll: Duration,
    pub full: Full,
    pub age: Duration,
    pub reports: Vec<Report>,
    pub live: Option<Duration>,
    pub timeout: Option<Duration>,
    /// Whether it gives up what it needs no more.
    pub sandbox: bool,
}

/// Why there is no switch, or no longer.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("take signals: {0}")]
    Signals(io::Error),
    #[error("start the switch: {0}")]
    Start(io::Error),
}

impl Fatal for Error {
    fn status(&self) -> Status {
        Status::Resource
    }
}

/// Signals that end it; SIGUSR1 asks for the report.
const ENDING: [i32; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];

/// Runs the switch of `plan` until a signal or the timeout ends it, and writes its reports.
pub fn run(plan: &Plan) -> Result<Status, Failure> {
    affinity::check_each(plan.cpus.iter().map(|&cpu| (format!("--cpu {cpu}"), cpu)).collect())?;
    write::check(&plan.reports)?;
    let signals = signal::take(&[&ENDING[..], &[libc::SIGUSR1]].concat()).map_err(Error::Signals)?;
    let sockets = sockets::Sockets::open(&plan.ports)?;
    let listeners = sockets.listeners().map_err(Error::Start)?;
    let needed = Needed { reports: &plan.reports, removed: &plan.ports, ..Needed::default() };
    let sandbox = if plan.sandbox { Sandbox::new(needed)? } else { Sandbox::open() };
    sandbox.enter(Who::Switch)?;
    let mut enter: Vec<Box<dyn FnOnce() + Send>> = Vec::new();
    for &cpu in &plan.cpus {
        enter.push(Box::new(move || {
            if let Err(error) = cpus::pin(cpu.into()) {
                say(format_args!("--cpu {cpu}: {error}"));
            }
        }));
    }
    if enter.is_empty() {
        enter.push(Box::new(|| ()));
    }
    let switch = Switch::start(switch::Plan {
        ports: listeners,
        workers: enter,
        busy_poll: plan.busy_poll,
        full: plan.full,
        age: plan.age,
    })
    .map_err(Error::Start)?;
    let status = wait(plan, &switch, &signals, &sandbox).map_err(Error::Signals)?;
    let counts = switch.counts();
    drop(switch);
    sandbox.writing(|| drop(sockets));
    sandbox.writing(|| tell(plan, &counts))?;
    Ok(status)
}

/// Until it is to end; reports are written meanwhile where somebody asks for them.
fn wait(plan: &Plan, switch: &Switch, signals: &std::fs::File, sandbox: &Sandbox) -> io::Result<Status> {
    let poll = PollContext::new()?;
    poll.add(signals, 0_u32)?;
    let begun = Instant::now();
    let end = plan.timeout.map(|timeout| begun + timeout);
    let mut before = switch.counts();
    let mut line = plan.live.map(|every| begun + every);
    loop {
        let next = [end, line].into_iter().flatten().min();
        let left = next.map(|next| next.saturating_duration_since(Instant::now()));
        poll.wait_timeout(left.unwrap_or(Duration::from_secs(3600)))?;
        while let Some(signal) = signal::next(signals) {
            if signal != libc::SIGUSR1 {
                return Ok(Status::Signal(signal as u8));
            }
            if let Err(failure) = sandbox.writing(|| tell(plan, &switch.counts())) {
                say(failure);
            }
        }
        let now = Instant::now();
        if end.is_some_and(|end| end <= now) {
            return Ok(Status::Timeout);
        }
        if let (Some(due), Some(every)) = (line, plan.live)
            && due <= now
        {
            let counts = switch.counts();
            eprint!("{}", text::live(&before, &counts));
            (before, line) = (counts, Some(now + every));
        }
    }
}

fn tell(plan: &Plan, counts: &switch::SwitchCounts) -> Result<(), Failure> {
    let model = model::Report::new(plan, counts);
    write::each(&plan.reports, || text::render(&model), || json::render(&model))?;
    Ok(())
}
