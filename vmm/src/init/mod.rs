//! What this binary does as process 1 of a Linux guest: tell that userspace runs, load the
//! modules, run the workloads, end the machine with their status.
//!
//! 1. [`is_init`] looks for the monitor's plan: process 1 of a container is not meant.
//! 2. The first act is a mark, before anything is mounted or loaded.
//! 3. Modules, in the order that the monitor found; the second mark.
//! 4. Each workload between two marks of its own; results go to the record port.
//! 5. The status goes to the exit port.
//!
//! Nothing is mounted that the workload doesn't need.

mod agent;
mod end;
mod idle;
pub mod plan;
mod shell;
mod speak;
mod tool;

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, IsTerminal};
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use abi::mark::Mark;
use abi::workload::Spec;

use crate::sys::init::{load_module, mount, stand_on};
use crate::sys::interface;
use crate::workload;
use plan::{Module, Plan};
use speak::Monitor;

/// Whether this process is the first of a guest that the monitor has booted.
pub fn is_init() -> bool {
    std::process::id() == 1 && Path::new(plan::PATH).exists()
}

/// Does all of it, and ends the machine.
pub fn run() -> ! {
    let monitor = Monitor::open();
    monitor.mark(Mark::Init);
    let status = match fs::read(plan::PATH) {
        Ok(bytes) => follow(&Plan::decode(&bytes), &monitor),
        Err(error) => failed(&format!("read {}", plan::PATH), &error),
    };
    end::with_status(&monitor, status)
}

/// The first status that isn't 0 ends it.
fn follow(plan: &Plan, monitor: &Monitor) -> u8 {
    for Module { path, parameters } in &plan.modules {
        if let Err(error) = load(path, parameters) {
            failed(&format!("load {path}"), &error);
        }
    }
    // A virtio console is there only now; the kernel has found none to start with.
    if !io::stdout().is_terminal()
        && let Ok(console) = File::options().read(true).write(true).open("/dev/console")
        && let Err(error) = stand_on(console)
    {
        failed("use the console", &error);
    }
    if plan.polls
        && let Err(error) = idle::poll()
    {
        failed("let idle CPUs poll", &error);
    }
    monitor.mark(Mark::Ready);
    for (index, text) in (0..).zip(&plan.workloads) {
        monitor.mark(Mark::Start(index));
        let status = perform(text, monitor);
        monitor.mark(Mark::End(index));
        if status != 0 {
            return status;
        }
    }
    0
}

fn load(path: &str, parameters: &str) -> io::Result<()> {
    match load_module(&File::open(path)?, !path.ends_with(".ko"), &CString::new(parameters)?) {
        // What another module has pulled in, or the kernel brought itself, is there.
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        result => result,
    }
}

fn perform(text: &str, monitor: &Monitor) -> u8 {
    // The monitor has checked it before the boot; an older one may know other words.
    let spec = match Spec::parse(text) {
        Ok(spec) => spec,
        Err(refusal) => {
            eprintln!("vmm init: {refusal}");
            return MAX_STATUS;
        }
    };
    match spec.workload.name {
        "ready" => 0,
        "exit" => spec.number("status") as u8,
        "shell" => shell::run().unwrap_or_else(|error| failed("run the shell", &error)),
        "agent" => agent::run(spec.number("port") as u32, monitor)
            .map_or_else(|error| failed("answer the host", &error), |()| 0),
        "idle" => {
            std::thread::sleep(Duration::from_secs(spec.number("seconds")));
            0
        }
        "panic" | "poweroff" | "reboot" | "triple-fault" => {
            failed(spec.workload.name, &end::by(spec.workload.name))
        }
        "tool" => tool::run(&spec, monitor),
        _ if spec.workload.key("address").is_some() => match address(&spec) {
            Ok(()) => workload::run(&spec, &mut |record| monitor.record(record)),
            Err(error) => failed(&format!("give {CARD} its address"), &error),
        },
        "blk" => match mount(c"/dev", c"devtmpfs").or_else(already_there) {
            Ok(()) => workload::run(&spec, &mut |record| monitor.record(record)),
            Err(error) => failed("mount /dev", &error),
        },
        _ => workload::run(&spec, &mut |record| monitor.record(record)),
    }
}

/// The first card, as the kernel calls it.
const CARD: &str = "eth0";

/// The other side may still be starting: so long is it waited for, looking so often.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(10);

/// What `address=` says becomes the card's. Who sends datagrams by themselves loses none to a peer that
/// isn't there yet.
fn address(spec: &Spec<'_>) -> io::Result<()> {
    let (address, _) = spec.peer("address").unwrap_or_default();
    interface::bring_up(CARD, address.into())?;
    let (peer, _) = spec.peer("peer").unwrap_or_default();
    let until = Instant::now() + PATIENCE;
    while spec.word("role") == "send"
        && !Ipv4Addr::from(peer).is_broadcast()
        && Instant::now() < until
        && !interface::reaches(CARD, peer.into())?
    {
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// The highest status that is a guest's own ([`abi::port::EXIT`]): beyond it are the monitor's.
const MAX_STATUS: u8 = 63;

/// One line on the console, and the status of what couldn't be done.
fn failed(deed: &str, error: &io::Error) -> u8 {
    eprintln!("vmm init: {deed}: {error}");
    1
}

/// What a shell, or anything that looks around, wants to find.
fn mount_all() -> io::Result<()> {
    for (target, kind) in
        [(c"/proc", c"proc"), (c"/sys", c"sysfs"), (c"/dev", c"devtmpfs"), (c"/tmp", c"tmpfs")]
    {
        mount(target, kind).or_else(already_there)?;
    }
    Ok(())
}

fn already_there(error: io::Error) -> io::Result<()> {
    if error.raw_os_error() == Some(libc::EBUSY) { Ok(()) } else { Err(error) }
}
