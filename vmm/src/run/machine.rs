//! A machine from its first instruction to its end: a thread for each vCPU, the main thread waiting.

use std::io;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::Builder;
use std::time::Instant;

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::console;
use super::phases::{Boundary, Phases};
use super::seat::{Seat, Taken};
use super::settling::Settling;
use super::signals::Signals;
use super::started::{self, Running, Started};
use super::supervise::{self, Supervisor};
use super::threads::{self, Before};
use super::vcpu::{Buses, Stop, Stopped};
use super::whereabouts::Whereabouts;
use crate::config::Config;
use crate::config::console::Place;
use crate::kvm::stats::{Snapshot, Statistics};
use crate::kvm::vcpu::Vcpu;
use crate::live::orders::Orders;
use crate::live::watch::{Scene, Watch};
use crate::machine::early;
use crate::sandbox::{self, Sandbox, Who};
use crate::status::{Fatal, Status, say};
use crate::sys::clock::ticks;
use crate::trace;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("create event fd: {0}")]
    EventFd(io::Error),
    #[error("start the thread of vCPU {0}: {1}")]
    Thread(u8, io::Error),
    #[error("let vCPU {0} be interrupted: {1}")]
    Kick(u8, io::Error),
    #[error("wait for the machine: {0}")]
    Wait(io::Error),
    #[error("pin {0}: {1}")]
    Pin(String, io::Error),
    #[error("start the thread that writes the console: {0}")]
    Console(io::Error),
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
}

impl Fatal for Error {
    fn status(&self) -> Status {
        Status::Resource
    }
}

/// Why the machine ended.
#[derive(Debug)]
pub enum Why {
    /// vCPU `id` stopped, by itself.
    Vcpu(u8, Stop),
    /// Nobody inside asked for it.
    Outside(supervise::End),
}

/// All that is known when every vCPU has stopped.
pub struct Outcome {
    pub why: Why,
    pub vcpus: Vec<Finished>,
    pub boundaries: Vec<Boundary>,
    /// When the first vCPU entered the guest and the last one stopped, in ticks.
    pub span: (u64, u64),
    /// KVM's counters at the end.
    pub stats: Option<Snapshot>,
    pub statistics: Option<Arc<Statistics>>,
    /// `None`: nobody asked. The calling thread is traced, too, as one behind the vCPUs.
    pub tracer: Option<Result<trace::Tracer, trace::Error>>,
}

/// A vCPU that has stopped, with what only its own thread could tell.
pub struct Finished {
    pub stopped: Stopped,
    pub usage: threads::Usage,
    pub vcpu: Vcpu,
}

/// What vCPU threads share.
pub struct Shared {
    pub buses: Arc<Buses>,
    pub phases: Arc<Phases>,
    pub whereabouts: Arc<Whereabouts>,
    pub orders: Arc<Orders>,
    pub ended: EventFd,
    /// The first to stop by itself.
    pub first: Mutex<Option<u8>>,
    /// Where vCPU threads wait until they are traced: open when it can be read.
    pub gate: Option<RwLock<()>>,
}

/// What a machine needs to run.
pub struct Parts<'a> {
    pub vcpus: Vec<Vcpu>,
    /// That made them, and is the first one's. It takes its seat meanwhile.
    pub thread: early::Thread,
    pub seated: Receiver<Result<Taken, Error>>,
    pub buses: Arc<Buses>,
    pub whereabouts: Arc<Whereabouts>,
    pub statistics: Option<Arc<Statistics>>,
    pub console: Option<&'a mut console::Console>,
    pub signals: &'a Signals,
    pub sandbox: Sandbox,
    /// `None`: nobody asked.
    pub trace: Option<Result<Arc<trace::Prepared>, trace::Error>>,
}

/// Runs the machine to its end and joins all its threads.
pub fn run(config: &Config, mut parts: Parts) -> Result<Outcome, Error> {
    // Before its threads, who are held to the same.
    parts.sandbox.limit_files()?;
    let statistics = parts.statistics;
    statistics.iter().for_each(|statistics| parts.whereabouts.count_by(statistics));
    let (prepared, untraced) = match parts.trace {
        None => (None, None),
        Some(Ok(prepared)) => (Some(prepared), None),
        Some(Err(error)) => (None, Some(error)),
    };
    let read = statistics.clone();
    let start = ticks();
    let shared = Arc::new(Shared {
        buses: parts.buses,
        whereabouts: parts.whereabouts,
        phases: Arc::new(Phases::new(start, Box::new(move || read.as_ref()?.snapshot()))),
        orders: Arc::new(Orders::new(parts.vcpus.len())),
        ended: EventFd::new(EFD_NONBLOCK).map_err(Error::EventFd)?,
        first: Mutex::new(None),
        gate: prepared.is_some().then(RwLock::default),
    });
    let gate = shared.gate.as_ref().and_then(|gate| gate.write().ok());

    let deadline = config.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let mut waited = Ok(supervise::End::Machine);
    let first = First { thread: parts.thread, seated: parts.seated };
    let (threads, mut failed) = start_all(config, parts.vcpus, first, &shared, &parts.sandbox, &prepared);
    if let (Some(console), None) = (&mut parts.console, &failed)
        && let Err(error) = console.start(&parts.sandbox)
    {
        failed = Some(Error::Console(error));
    }
    // The guest runs already, and will soon say that it is ready.
    statistics.iter().for_each(|statistics| statistics.learn());
    let tracer = untraced.map(Err).or_else(|| Some(trace_all(config, &prepared?, &threads)));
    if let Some(Err(error)) = &tracer {
        say(format_args!("exits are not traced: {error}"));
    }
    drop(gate);
    if failed.is_none() {
        let scene = Scene {
            orders: shared.orders.clone(),
            kickers: threads.iter().map(|thread| thread.kicker).collect(),
            statistics: statistics.clone(),
            buses: shared.buses.clone(),
            tracer: tracer.as_ref().and_then(|tracer| tracer.as_ref().ok()),
        };
        let watch = Watch::new(scene, config.live, config.console.place == Place::Stdio);
        let (signals, console) = (parts.signals, parts.console);
        let (watch, settling) = (Some(watch), Settling::new(shared.phases.number()));
        let supervisor = Supervisor { ended: &shared.ended, signals, console, deadline, watch, settling };
        match parts.sandbox.enter(Who::Main) {
            Ok(()) => waited = supervisor.run(),
            Err(error) => failed = Some(error.into()),
        }
    }

    shared.orders.stop();
    let vcpus: Result<Vec<Finished>, Error> = threads.into_iter().map(Running::join).collect();
    let vcpus = vcpus?;
    let span = (vcpus.iter().map(|v| v.stopped.first_entry).min().unwrap_or(start), ticks());
    if let Some(error) = failed {
        return Err(error);
    }
    let outside = waited.map_err(Error::Wait)?;
    let first = *shared.first.lock().unwrap_or_else(PoisonError::into_inner);
    let mut outcome = Outcome {
        why: Why::Outside(outside),
        vcpus,
        boundaries: shared.phases.close(),
        span,
        stats: statistics.as_ref().and_then(|s| s.snapshot()),
        statistics,
        tracer,
    };
    // Whoever stopped by itself first is the reason, even where a signal came in the same moment.
    let cause = outcome.vcpus.iter_mut().find(|v| Some(v.stopped.id) == first);
    if let Some(cause) = cause {
        outcome.why = Why::Vcpu(cause.stopped.id, std::mem::replace(&mut cause.stopped.stop, Stop::Told));
    }
    Ok(outcome)
}

/// The first vCPU's thread, which is there already, and its seat.
struct First {
    thread: early::Thread,
    seated: Receiver<Result<Taken, Error>>,
}

/// Starts a thread for each vCPU; those that run, and the first error.
fn start_all(
    config: &Config,
    vcpus: Vec<Vcpu>,
    first: First,
    shared: &Arc<Shared>,
    sandbox: &Sandbox,
    prepared: &Option<Arc<trace::Prepared>>,
) -> (Vec<Running>, Option<Error>) {
    let mut vcpus = vcpus.into_iter();
    let First { thread, seated } = first;
    let seated = move || seated.recv().unwrap_or_else(|_| Err(started::gone(0)));
    let first =
        vcpus.next().map(|vcpu| started::start(vcpu, seated, shared.clone(), |job| Ok(thread.end_with(job))));
    let others = vcpus.map(|vcpu| {
        let seat = Seat::new(config, vcpu.id, sandbox, prepared);
        let builder = Builder::new().name(format!("vcpu{}", vcpu.id));
        started::start(vcpu, move || seat.take(Before::default()), shared.clone(), |job| builder.spawn(job))
    });
    // All of them are started before any is waited for.
    let starts: Vec<_> = first.into_iter().chain(others).collect();
    let (threads, failures): (Vec<_>, Vec<_>) =
        starts.into_iter().map(|start| start.and_then(Started::ready)).partition(Result::is_ok);
    (threads.into_iter().flatten().collect(), failures.into_iter().find_map(Result::err))
}

/// Traces every vCPU's thread and the calling one.
fn trace_all(
    config: &Config,
    prepared: &Arc<trace::Prepared>,
    threads: &[Running],
) -> Result<trace::Tracer, trace::Error> {
    let numbers = threads.iter().filter_map(|thread| thread.number);
    let numbers: Vec<u32> = numbers.chain([prepared.thread()?]).collect();
    prepared.attach(&numbers, config.sandbox)
}
