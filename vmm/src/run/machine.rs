//! A machine from its first instruction to its end: a thread for each vCPU, the main thread waiting.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, RwLock, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::console;
use super::ledger::Ledger;
use super::phases::{Boundary, Phases};
use super::signals::Signals;
use super::supervise::{self, Supervisor};
use super::threads;
use super::vcpu::{self, Buses, Stop, Stopped};
use crate::config::Config;
use crate::config::console::Place;
use crate::kvm::stats::{Snapshot, Statistics};
use crate::kvm::vcpu::Vcpu;
use crate::live::orders::Orders;
use crate::live::watch::{Scene, Watch};
use crate::sandbox::{self, Devices, Sandbox, Who};
use crate::status::{Fatal, Status, say};
use crate::sys::clock::ticks;
use crate::sys::kick::{Kickable, Kicker};
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
struct Shared {
    buses: Arc<Buses>,
    phases: Arc<Phases>,
    orders: Arc<Orders>,
    sandbox: Sandbox,
    ended: EventFd,
    /// The first to stop by itself.
    first: Mutex<Option<u8>>,
    trace: Option<Gate>,
}

/// Where vCPU threads wait until they are traced.
struct Gate {
    prepared: Arc<trace::Prepared>,
    /// Open when it can be read.
    open: RwLock<()>,
}

/// What a machine needs to run.
pub struct Parts<'a> {
    pub vcpus: Vec<Vcpu>,
    pub buses: Arc<Buses>,
    pub statistics: Option<Arc<Statistics>>,
    pub console: Option<&'a mut console::Console>,
    pub signals: &'a Signals,
    pub sandbox: Sandbox,
    /// `None`: nobody asked.
    pub trace: Option<Result<trace::Prepared, trace::Error>>,
}

/// How long a thread may take to leave the guest before it is kicked again.
const PATIENCE: Duration = Duration::from_millis(50);

/// Runs the machine to its end and joins all its threads.
pub fn run(config: &Config, parts: Parts) -> Result<Outcome, Error> {
    // Before its threads, who are held to the same.
    parts.sandbox.limit_files()?;
    let statistics = parts.statistics;
    let (prepared, untraced) = match parts.trace {
        None => (None, None),
        Some(Ok(prepared)) => (Some(Arc::new(prepared)), None),
        Some(Err(error)) => (None, Some(error)),
    };
    let read = statistics.clone();
    let start = ticks();
    let shared = Arc::new(Shared {
        buses: parts.buses,
        phases: Arc::new(Phases::new(start, Box::new(move || read.as_ref()?.snapshot()))),
        orders: Arc::new(Orders::new(parts.vcpus.len())),
        sandbox: parts.sandbox,
        ended: EventFd::new(EFD_NONBLOCK).map_err(Error::EventFd)?,
        first: Mutex::new(None),
        trace: prepared.clone().map(|prepared| Gate { prepared, open: RwLock::new(()) }),
    });
    let gate = shared.trace.as_ref().and_then(|gate| gate.open.write().ok());

    let mut traced = Vec::with_capacity(parts.vcpus.len() + 1);
    let mut threads: Vec<Started> = Vec::with_capacity(parts.vcpus.len());
    let deadline = config.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let mut waited = Ok(supervise::End::Machine);
    let mut failed = None;
    for vcpu in parts.vcpus {
        match start_thread(config, vcpu, shared.clone()) {
            Ok((thread, number)) => {
                threads.push(thread);
                traced.extend(number);
            }
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    // The guest runs already, and will soon say that it is ready.
    statistics.iter().for_each(|statistics| statistics.learn());
    let tracer = prepared.map(|prepared| {
        traced.push(prepared.thread()?);
        prepared.attach(&traced)
    });
    let tracer = untraced.map(Err).or(tracer);
    if let Some(Err(error)) = &tracer {
        say(format_args!("exits are not traced: {error}"));
    }
    drop(gate);
    if failed.is_none() {
        let scene = Scene {
            orders: shared.orders.clone(),
            kickers: threads.iter().map(|(kicker, _)| *kicker).collect(),
            statistics: statistics.clone(),
            buses: shared.buses.clone(),
            tracer: tracer.as_ref().and_then(|tracer| tracer.as_ref().ok()),
        };
        let watch = Watch::new(scene, config.live, config.console.place == Place::Stdio);
        let (signals, console) = (parts.signals, parts.console);
        let supervisor = Supervisor { ended: &shared.ended, signals, console, deadline, watch: Some(watch) };
        match shared.sandbox.enter(Who::Main) {
            Ok(()) => waited = supervisor.run(),
            Err(error) => failed = Some(error.into()),
        }
    }

    shared.orders.stop();
    let vcpus: Vec<Finished> =
        threads.into_iter().map(|(kicker, thread)| join(|| kicker.kick(), thread)).collect();
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

type Started = (Kicker, JoinHandle<Finished>);

/// Ends the machine where a thread that holds it ends, even by a panic.
struct EndsIt<'a>(&'a EventFd);

impl Drop for EndsIt<'_> {
    fn drop(&mut self) {
        // Fails only if nobody has looked at 2^64 - 2 earlier ends.
        let _ = self.0.write(1);
    }
}

/// Answers the thread's number as the tracer needs it, where there is one.
fn start_thread(
    config: &Config,
    mut vcpu: Vcpu,
    shared: Arc<Shared>,
) -> Result<(Started, Option<u32>), Error> {
    let id = vcpu.id;
    let cpu = config.pin.vcpus.iter().find(|(vcpu, _)| *vcpu == id).map(|(_, cpu)| *cpu);
    let devices = Devices::of(config);
    let (ready, started) = mpsc::sync_channel(1);
    let body = move || {
        let kickable = Kickable::register(vcpu.fd());
        let pinned =
            cpu.map(|cpu| threads::pin(cpu).map_err(|e| Error::Pin(format!("vCPU {id} to CPU {cpu}"), e)));
        let (kickable, pinned) = match (kickable, pinned.transpose()) {
            (Ok(kickable), Ok(pinned)) => {
                let number = shared.trace.as_ref().map(|gate| gate.prepared.thread().unwrap_or(0));
                match shared.sandbox.enter(Who::Vcpu(devices)) {
                    Ok(()) => {
                        let _ = ready.send(Ok((kickable.kicker(), number)));
                        // Poisoned or not, it opens when the main thread lets go of it.
                        drop(shared.trace.as_ref().map(|gate| gate.open.read()));
                        (Some(kickable), pinned)
                    }
                    Err(error) => {
                        let _ = ready.send(Err(error.into()));
                        (None, None)
                    }
                }
            }
            (Err(error), _) => {
                let _ = ready.send(Err(Error::Kick(id, error)));
                (None, None)
            }
            (_, Err(error)) => {
                let _ = ready.send(Err(error));
                (None, None)
            }
        };
        let mut orders = shared.orders.reader(id.into());
        let told = |ledger: &Ledger| {
            kickable.as_ref().is_none_or(|kickable| {
                kickable.acknowledge();
                orders.obey(ledger)
            })
        };
        let ends_it = EndsIt(&shared.ended);
        let stopped = vcpu::run(&mut vcpu, &shared.buses, &shared.phases, told);
        if !matches!(stopped.stop, Stop::Told) {
            shared.first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(id);
        }
        drop(ends_it);
        Finished { stopped, usage: threads::usage(pinned), vcpu }
    };
    let thread = std::thread::Builder::new().name(format!("vcpu{id}")).spawn(body);
    let thread = thread.map_err(|error| Error::Thread(id, error))?;
    match started.recv() {
        Ok(Ok((kicker, number))) => Ok(((kicker, thread), number)),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(Error::Thread(id, io::Error::other("it ended at once"))),
    }
}

/// Kicks a thread until it has ended. Its panic becomes the caller's: a report without its counts would
/// not add up. (Where a panic aborts, as in the release profile, the process has ended before.)
fn join<T>(kick: impl Fn(), thread: JoinHandle<T>) -> T {
    while !thread.is_finished() {
        kick();
        let since = Instant::now();
        while !thread.is_finished() && since.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_micros(100));
        }
    }
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn a_vcpu_thread_that_ends_early_ends_the_machine_and_is_not_left_out_of_it() {
        let ended = Arc::new(EventFd::new(EFD_NONBLOCK).unwrap());
        let seen = ended.clone();
        let thread = std::thread::spawn(move || {
            let _ends_it = EndsIt(&seen);
            panic!("a test of a vCPU thread's panic");
        });
        let joined = catch_unwind(AssertUnwindSafe(|| join(|| (), thread)));
        assert!(joined.is_err());
        assert_eq!(ended.read().unwrap(), 1, "nobody waits for it any longer");
    }
}
