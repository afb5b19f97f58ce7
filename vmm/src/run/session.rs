//! One machine from its configuration to its exit status: open what the user named, build, run, tell.

use std::sync::{Arc, Mutex, mpsc};

use devices::console::port::ConsolePort;
use devices::line::{Line, Port};

use super::affinity;
use super::afterwards::{self, Scene};
use super::console::Wire;
use super::cpu_group::CpuGroup;
use super::end;
use super::last_words::{LastWords, Listener};
use super::machine::{self as running, Parts};
use super::seat::Seat;
use super::signals::Signals;
use crate::boot::payload;
use crate::config::{Config, net};
use crate::kvm::stats::Statistics;
use crate::machine::attach::Opened;
use crate::machine::early::Early;
use crate::machine::{self, Machine};
use crate::report::{self, Birth};
use crate::sandbox::{Needed, Sandbox};
use crate::status::{Failure, Status, say};
use crate::trace;

/// Runs the machine of `config`, for which `early` may have been fetched, writes its reports and returns how it
/// ended.
pub fn run(
    config: &Config,
    birth: Birth,
    early: Option<Result<Early, machine::Error>>,
) -> Result<Status, Failure> {
    // What can be wrong with what the user named is found before there is a VM.
    let payload = payload::open(config)?;
    affinity::check(&config.pin)?;
    report::write::check(&config.reports)?;
    // Before there is any thread that stays.
    let group = config.cpu_limit.map(CpuGroup::enter).transpose()?;
    let taps = config.nets.iter().any(|net| !matches!(net.wire, net::Wire::VhostUser(_)));
    let group_folder = group.as_ref().map(CpuGroup::folder);
    let needed = Needed { reports: &config.reports, taps, group: group_folder, ..Needed::default() };
    let sandbox = if config.sandbox { Sandbox::new(needed)? } else { Sandbox::open() };
    // Before a device's keeper, too: a thread that has not blocked them would die of them, and all with it.
    let signals = Signals::take().map_err(machine::Error::Signals)?;
    let mut opened = Opened::open(config, &sandbox).map_err(machine::Error::Device)?;
    let wire = Wire::open(&config.console)?;
    let words = LastWords::default();
    let line = wire.as_ref().map(Wire::line).transpose().map_err(machine::Error::EventFd)?;
    let mut line: Option<Box<dyn Line>> = line.map(|line| Box::new(Listener::new(line, words.clone())) as _);
    let mut port: Option<Arc<Mutex<dyn Port>>> = None;
    if let (Some(line), Some(wire)) = (line.take_if(|_| config.console.is_virtio()), &wire) {
        let virtio = Arc::new(Mutex::new(ConsolePort::new(line).map_err(machine::Error::EventFd)?));
        opened = opened.with_console(virtio.clone(), wire.size()).map_err(machine::Error::Device)?;
        port = Some(virtio);
    }

    let trace = config.trace_exits.then(|| trace::prepare().map(Arc::new));
    let prepared = trace.as_ref().and_then(|trace| trace.as_ref().ok().cloned());
    let seat = Seat::new(config, 0, &sandbox, &prepared);
    let (send, seated) = mpsc::channel();
    // Nobody listens where the machine could not be built.
    let take = Box::new(move || _ = send.send(seat.take_early()));
    let early = early.unwrap_or_else(Early::begin)?;
    let Machine { kvm, vm, vcpus, thread, buses, devices, serial, exit_port, applied, ram } =
        machine::build(config, early, take, payload, opened, line)?;
    if config.verbose {
        say(format_args!("added to the command line: {}", applied.cmdline.added()));
    }
    let statistics = Statistics::open(vm.fd(), vcpus.iter().map(|vcpu| vcpu.fd()));
    let statistics =
        statistics.map(Arc::new).map_err(|error| say(format_args!("{error}; see the nulls"))).ok();
    let port = port.or(serial.map(|serial| serial as _));
    let mut console = match (wire, port) {
        (Some(wire), Some(port)) => Some(wire.connect(port, &signals).map_err(machine::Error::Console)?),
        _ => None,
    };
    let buses = Arc::new(buses);
    let parts = Parts {
        vcpus,
        thread,
        seated,
        buses: buses.clone(),
        whereabouts: devices.whereabouts(),
        statistics,
        console: console.as_mut(),
        signals: &signals,
        sandbox: sandbox.clone(),
        trace,
    };
    let outcome = running::run(config, parts);
    // While nothing of the end is in memory, let alone of the report.
    let memory = (!config.reports.is_empty()).then(|| ram.evidence().ok()).flatten();
    // The terminal first: whatever is said from here on is said on a sane one.
    let console = console.map(|console| console.finish(&signals));
    let workers = devices.workers();
    let devices = devices.finish();
    let outcome = outcome?;

    let end = end::of(&outcome, words.said());
    if let Some(dump) = &end.dump {
        say(dump);
    }
    say(&end.line);
    if let Some(loss) = console.and_then(|console| console.loss()) {
        say(loss);
    }
    if !config.reports.is_empty() {
        let scene = Scene {
            kvm: &kvm,
            config,
            birth,
            end: &end,
            buses: &buses,
            devices,
            workers,
            exit_port: &exit_port,
            applied: &applied,
            memory,
            throttled: group.as_ref().and_then(CpuGroup::throttled),
            sandbox: sandbox.made(),
        };
        let facts = afterwards::gather(scene, outcome);
        let report = report::build(&facts);
        sandbox.writing(|| report::write::all(&report, &config.reports, config.verbose))?;
    }
    sandbox.writing(|| drop(group));
    Ok(end.status)
}
