//! `--trace-exits`: each exit by the processor's reason, with its time.
//!
//! - [`tracefs`]    where the kernel describes its tracepoints
//! - [`format`]     what a tracepoint's record looks like
//! - [`assemble`]   instructions for the kernel's own machine, BPF
//! - [`program`]    what it does at each tracepoint of KVM
//! - [`rows`]       what the programs have counted
//! - [`reasons`], [`registers`], [`decode`]  numbers → words, of Intel's and of AMD's manual
//!
//! Programs in the kernel add up there; nothing is copied out while the machine runs. The other way is
//! a ring buffer for each thread (perf_event_open(2)), which a thread of ours would empty. Measured on a
//! Linux 6.18 host (AMD EPYC 9B14) that had other work, too, on a tracepoint that fired 2,800,000 times in
//! 2.5 s, CPU time of the vCPU thread for each event, median of two runs: ring buffer with a reader 500 ns,
//! `perf record` (a ring buffer, too) 540 ns, a program that keeps count, sum, maximum and histogram
//! 130 ns. Rings of 2 MiB lost no event, but the reader takes another 9 ns of another CPU. What programs
//! cost instead: threads of other machines on this host run the first six instructions of ours, too, and
//! CAP_BPF is needed beside CAP_PERFMON.

pub mod assemble;
pub mod decode;
pub mod format;
pub mod program;
pub mod reasons;
pub mod registers;
pub mod rows;
pub mod tracefs;

use std::fs::File;
use std::io;
use std::thread;

use crate::sys::bpf::{Map, MapKind, Program, ProgramKind, Refused};
use crate::sys::privileges::{self, capable};
use format::Format;
use program::{Event, Maps};
pub use rows::Traced;

/// Why exits are not traced. The machine runs all the same; the report says `null`, and this.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Tracefs(#[from] tracefs::Error),
    #[error("{0}: CAP_BPF and CAP_PERFMON are needed, or root")]
    Privilege(&'static str),
    #[error("this kernel has no bpf(2)")]
    NoBpf,
    #[error("{0} for the tracer: {1}")]
    Host(&'static str, io::Error),
    #[error("read what was traced: {0}")]
    Thread(#[from] io::Error),
    #[error(
        "kernels before Linux 5.19 let only the privileged read what programs have counted, and the sandbox \
         leaves nobody privileged: sysctl kernel.unprivileged_bpf_disabled=0, or --sandbox=off"
    )]
    Unreadable,
    #[error("the kernel refuses the program for {event}: {refused} {verdict}")]
    Refused { event: &'static str, refused: io::Error, verdict: String },
}

/// Rows of all vCPUs together, 1.3 KiB of the kernel's memory each, and for each vCPU so many more.
const ROWS: usize = 256;
const ROWS_EACH: usize = 128;
const MOST_ROWS: usize = 4096;

/// A tracer before there are threads to trace.
#[derive(Debug)]
pub struct Prepared {
    formats: Vec<(Event, Format)>,
    who: Program,
}

/// Programs at their tracepoints, until dropped.
#[derive(Debug)]
pub struct Tracer {
    maps: Maps,
    /// A tracepoint that this kernel lacks has none.
    programs: Vec<(Event, Program)>,
    _attached: Vec<File>,
    threads: usize,
}

/// Finds out whether exits can be traced here.
pub fn prepare() -> Result<Prepared, Error> {
    let formats = tracefs::formats()?;
    let who = program::who_am_i().unwrap_or_default();
    let who = Program::load(ProgramKind::RawTracepoint, &who).map_err(|refused| why("itself", refused))?;
    let prepared = Prepared { formats, who };
    prepared.thread()?;
    Ok(prepared)
}

impl Prepared {
    /// The calling thread's number, as programs see it, whatever PID namespace this is.
    pub fn thread(&self) -> io::Result<u32> {
        self.who.run()
    }

    /// Traces these threads, which [`Traced`] names by their place in the list. `confined`: it will be read by
    /// a thread that has no capabilities any more.
    pub fn attach(&self, threads: &[u32], confined: bool) -> Result<Tracer, Error> {
        let host = |deed| move |error| Error::Host(deed, error);
        let entries = (ROWS + ROWS_EACH * threads.len()).min(MOST_ROWS) as u32;
        let map = |kind, key, value, entries| Map::new(kind, key, value, entries).map_err(host("make a map"));
        let maps = Maps {
            states: map(MapKind::Array, 4, program::state::SIZE, threads.len() as u32)?,
            rows: map(MapKind::Hash, program::KEY, program::row::SIZE, entries)?,
            blank: map(MapKind::Array, 4, program::row::SIZE, 1)?,
        };
        if confined {
            readable(read_without_privilege(&maps.blank))?;
        }
        for thread in 0..threads.len() {
            let (key, blank) = (rows::last_row(thread), [0; program::row::SIZE]);
            maps.rows.set(&key, &blank).map_err(host("make a row"))?;
        }
        let mut programs = Vec::new();
        for (event, format) in &self.formats {
            let name = event.name();
            let insns = program::program(*event, format, threads, &maps)
                .map_err(|error| tracefs::Error::Format { event: name, error })?;
            let program =
                Program::load(ProgramKind::Tracepoint, &insns).map_err(|refused| why(name, refused))?;
            programs.push((*event, program, format.id));
        }
        // The entry first: a detail before it would be taken for one that no entry follows.
        let mut attached = Vec::new();
        for (event, program, id) in &programs {
            let file = program.attach(*id).map_err(|error| match error.raw_os_error() {
                Some(libc::EPERM | libc::EACCES) => Error::Privilege(event.name()),
                _ => Error::Host("attach a program", error),
            })?;
            attached.push(file);
        }
        let programs = programs.into_iter().map(|(event, program, _)| (event, program)).collect();
        Ok(Tracer { maps, programs, _attached: attached, threads: threads.len() })
    }
}

impl Tracer {
    /// What has been counted so far.
    pub fn collect(&self) -> io::Result<Traced> {
        let mut traced = rows::read(&self.maps, self.threads)?;
        traced.present = self.programs.iter().map(|(event, _)| *event).collect();
        traced.missed = self.programs.iter().filter_map(|(_, program)| program.misses().ok()).sum();
        Ok(traced)
    }
}

/// What a thread without capabilities hears of the kernel when it reads a map.
fn read_without_privilege(map: &Map) -> io::Result<bool> {
    let read = || {
        privileges::keep(&[], false)?;
        map.get(&[0; 4], &mut [0; program::row::SIZE])
    };
    thread::scope(|scope| {
        let reader = thread::Builder::new().name("tracer".into()).spawn_scoped(scope, read)?;
        reader.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
    })
}

/// Whether that is enough for what comes after the sandbox. Linux 5.19 was the first to tell reading a map from
/// making one, where `kernel.unprivileged_bpf_disabled` forbids bpf(2) to others
/// (Documentation/admin-guide/sysctl/kernel.rst).
fn readable(heard: io::Result<bool>) -> Result<(), Error> {
    match heard {
        Ok(_) => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => Err(Error::Unreadable),
        Err(error) => Err(Error::Host("read a map", error)),
    }
}

/// Why a program was not taken.
fn why(event: &'static str, refused: Refused) -> Error {
    const CAP_SYS_ADMIN: u32 = 21;
    const CAP_PERFMON: u32 = 38;
    const CAP_BPF: u32 = 39;
    let Refused { error, verdict } = refused;
    match error.raw_os_error() {
        Some(libc::ENOSYS) => Error::NoBpf,
        Some(libc::EPERM | libc::EACCES) if !capable(CAP_SYS_ADMIN) => {
            match (capable(CAP_BPF), capable(CAP_PERFMON)) {
                (false, false) => Error::Privilege("CAP_BPF and CAP_PERFMON are missing"),
                (false, true) => Error::Privilege("CAP_BPF is missing"),
                (true, false) => Error::Privilege("CAP_PERFMON is missing"),
                (true, true) => Error::Refused { event, refused: error, verdict },
            }
        }
        _ => Error::Refused { event, refused: error, verdict },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_would_keep_the_counts_to_itself_is_told_before_there_are_any() {
        let heard = |number| readable(Err(io::Error::from_raw_os_error(number)));
        assert!(readable(Ok(true)).is_ok());
        let error = heard(libc::EPERM).unwrap_err().to_string();
        assert!(error.contains("before Linux 5.19") && error.contains("--sandbox=off"), "{error}");
        assert!(matches!(heard(libc::EBADF), Err(Error::Host("read a map", _))));
    }
}
