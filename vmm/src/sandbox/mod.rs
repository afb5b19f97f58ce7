//! What a machine that runs may still do: a guest that has broken out of its devices finds nothing to go on
//! with.
//!
//! - [`filter`]  the system calls of each kind of thread, compiled by `build/filters.rs`
//! - [`files`]   the files that are still needed
//!
//! [`Sandbox::new`] comes before the first thread that stays; each thread then calls
//! [`Sandbox::enter`] for itself, once it has what it needs. It takes some ten system calls, three more for
//! each file of a report, and three for each thread; no exit of the guest costs more for it but for its
//! `KVM_RUN`, whose number the filter of a vCPU looks at.

mod files;
/// Made by `build/filters.rs`.
pub mod filter {
    include!(concat!(env!("OUT_DIR"), "/filters.rs"));
}

use std::io;
use std::sync::Arc;

pub use files::Needed;

use devices::blk::Engine;

use crate::config::Config;
use crate::config::disk::{Disk, Medium};
use crate::status::{Fatal, Status, say};
use crate::sys::landlock::{self, Ruleset};
use crate::sys::{privileges, seccomp};

/// Who enters the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The thread that waits, and reports in the end.
    Main,
    /// One that runs a vCPU, and starts the workers of these devices.
    Vcpu(Devices),
    /// One that serves a device. It is started by a vCPU and stays under that one's filter, too.
    Worker(Devices),
    /// One that keeps the connection to another process.
    Keeper,
    /// The one that writes the console.
    Console,
    /// Any of `vmm switch`.
    Switch,
}

/// What a machine has of virtio devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Devices {
    None,
    Any,
    /// And a disk served by io_uring among them.
    Uring,
}

impl Devices {
    pub fn of(config: &Config) -> Devices {
        let uring = |disk: &Disk| matches!(disk.medium, Medium::Image(_, Engine::Uring));
        match config.has_virtio() {
            false => Devices::None,
            true if config.disks.iter().any(uring) => Devices::Uring,
            true => Devices::Any,
        }
    }
}

impl Who {
    fn filter(self) -> &'static [libc::sock_filter] {
        match self {
            Who::Main => filter::MAIN,
            Who::Vcpu(Devices::None) => filter::VCPU,
            Who::Vcpu(Devices::Any) => filter::VCPU_WITH_DEVICES,
            Who::Vcpu(Devices::Uring) => filter::VCPU_WITH_URING,
            Who::Worker(Devices::Uring) => filter::WORKER_WITH_URING,
            Who::Worker(_) => filter::WORKER,
            Who::Keeper => filter::KEEPER,
            Who::Console => filter::CONSOLE,
            Who::Switch => filter::SWITCH,
        }
    }

    /// Whether it drops capabilities: a worker has none, for its vCPU had none.
    fn drops(self) -> bool {
        !matches!(self, Who::Worker(_))
    }

    /// Whether it is started before [`Sandbox::limit_files`].
    fn is_early(self) -> bool {
        matches!(self, Who::Keeper | Who::Switch)
    }

    /// Whether it writes reports.
    fn reports(self) -> bool {
        matches!(self, Who::Main | Who::Switch)
    }
}

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
#[error("enter the sandbox: {deed}: {source}; --sandbox=off runs without")]
pub struct Error {
    deed: &'static str,
    source: io::Error,
}

impl Fatal for Error {
    fn status(&self) -> Status {
        Status::Resource
    }
}

fn doing(deed: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error { deed, source }
}

/// What it has become, for the report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Made {
    pub seccomp: bool,
    /// The version of Landlock.
    pub landlock: Option<u32>,
}

/// A sandbox; where the user wants none, an open one.
#[derive(Clone, Debug)]
pub struct Sandbox(Option<Arc<Closed>>);

#[derive(Debug)]
struct Closed {
    seccomp: bool,
    files: Option<Ruleset>,
    /// Capabilities that the main thread takes back to write the reports, and to remove files.
    kept: Vec<u32>,
}

impl Sandbox {
    /// One that forbids nothing.
    pub fn open() -> Sandbox {
        Sandbox(None)
    }

    /// One for this process, which still needs these files.
    pub fn new(needed: Needed) -> Result<Sandbox, Error> {
        privileges::no_new().map_err(doing("give up new privileges"))?;
        privileges::not_dumpable().map_err(doing("close this process to others"))?;
        let seccomp = seccomp::available();
        if seccomp {
            seccomp::name_what_is_forbidden().map_err(doing("handle SIGSYS"))?;
        } else {
            say("the sandbox forbids no system calls: this kernel has no seccomp filters");
        }
        let files = match landlock::version() {
            Some(version) => Some(needed.rules(version).map_err(doing("say which files are needed"))?),
            None => {
                say("the sandbox leaves all files in reach: this kernel has no Landlock, or not in lsm=");
                None
            }
        };
        let kept = if needed.are_of_others() && privileges::capable(privileges::DAC_OVERRIDE) {
            vec![privileges::DAC_OVERRIDE]
        } else {
            Vec::new()
        };
        Ok(Sandbox(Some(Arc::new(Closed { seccomp, files, kept }))))
    }

    /// The calling thread is held to what `who` needs, and so are those that it will start.
    pub fn enter(&self, who: Who) -> Result<(), Error> {
        let Some(closed) = &self.0 else { return Ok(()) };
        if who.drops() {
            let kept: &[u32] = if who.reports() { &closed.kept } else { &[] };
            privileges::keep(kept, false).map_err(doing("drop capabilities"))?;
        }
        if who.is_early() {
            self.limit_files()?;
        }
        if closed.seccomp {
            seccomp::confine(who.filter()).map_err(doing("limit the system calls"))?;
        }
        Ok(())
    }

    /// The calling thread, and those that it will start, reach only the files that are needed.
    pub fn limit_files(&self) -> Result<(), Error> {
        let files = self.0.as_ref().and_then(|closed| closed.files.as_ref());
        files.map_or(Ok(()), |files| files.restrict().map_err(doing("limit the files")))
    }

    /// The same for a thread that was there before this sandbox, as which it can gain no privileges either.
    pub fn limit_earlier(&self) -> Result<(), Error> {
        if self.0.is_some() {
            privileges::no_new().map_err(doing("give up new privileges"))?;
        }
        self.limit_files()
    }

    /// Writes reports, or removes files, with what that takes.
    pub fn writing<T>(&self, write: impl FnOnce() -> T) -> T {
        let kept = self.0.as_ref().map_or(&[][..], |closed| &closed.kept);
        if kept.is_empty() {
            return write();
        }
        // Refused, it is the writing that fails, and says so.
        let _ = privileges::keep(kept, true);
        let written = write();
        let _ = privileges::keep(kept, false);
        written
    }

    pub fn made(&self) -> Made {
        self.0.as_ref().map_or(Made::default(), |closed| Made {
            seccomp: closed.seccomp,
            landlock: closed.files.as_ref().map(Ruleset::version),
        })
    }
}
