//! Linux as a [`Platform`].

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use abi::workload::{Idle, Spec};
use workloads::platform::{Gate, Platform, Unavailable};

use super::datagrams::Socket;
use super::disk::Disk;
use super::start::Start;
use crate::sys::affinity;
use crate::sys::clock::{now_ns, sleep_until_ns};
use crate::sys::futex;
use crate::sys::mapping::{Advice, Mapping};
use crate::sys::null::Null;
use crate::sys::switches::{Switches, switches};

const HUGE: usize = 2 << 20;

/// The kernel below this process.
pub struct Linux {
    /// The CPUs that this process may use, in ascending order.
    cpus: Vec<usize>,
    huge: AtomicBool,
    /// Context switches at the last `prepare`.
    slept: AtomicU64,
    preempted: AtomicU64,
    /// In place of a disk of this guest.
    file: Mutex<Option<PathBuf>>,
}

impl Linux {
    pub fn new() -> Linux {
        let (slept, preempted, file) = Default::default();
        Linux { cpus: affinity::allowed(), huge: AtomicBool::new(true), slept, preempted, file }
    }
}

impl Platform for Linux {
    type NullFile = Null;
    type Datagrams = Socket;
    type Disk = Disk;

    fn prepare(&self, spec: &Spec<'_>) -> Result<(), Unavailable> {
        let has = |key: &str| spec.workload.key(key).is_some();
        if has("ring") && spec.word("ring") == "0" {
            return Err(Unavailable("linux-runs-programs-in-ring-3"));
        }
        if has("idle") && spec.idle() != Idle::Halt {
            return Err(Unavailable("idle-is-a-key-of-the-built-in-kernel"));
        }
        self.huge.store(!spec.small_pages(), Ordering::Relaxed);
        let file = has("file").then(|| spec.word("file")).filter(|file| *file != "-");
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = file.map(PathBuf::from);
        let now = switches();
        self.slept.store(now.slept, Ordering::Relaxed);
        self.preempted.store(now.preempted, Ordering::Relaxed);
        Ok(())
    }

    fn now(&self) -> u64 {
        now_ns(libc::CLOCK_MONOTONIC)
    }

    fn sleep_until(&self, deadline: u64) {
        sleep_until_ns(deadline);
    }

    fn cpus(&self) -> usize {
        self.cpus.len()
    }

    fn run(&self, threads: usize, body: &(dyn Fn(usize) + Sync)) -> Result<(), Unavailable> {
        let line = Start::default();
        let pinned = |index: usize| {
            if let Some(cpu) = self.cpus.get(index) {
                // A CPU that went away meanwhile: the kernel places the thread, as it does all others.
                let _ = affinity::pin(*cpu);
            }
            if line.pass() {
                body(index);
            }
        };
        let pinned = &pinned;
        thread::scope(|scope| {
            let start = |index| thread::Builder::new().spawn_scoped(scope, move || pinned(index)).map(drop);
            line.open((0..threads).try_for_each(start)).map_err(|_| Unavailable("no-more-threads"))
        })
    }

    fn wait(&self, word: &AtomicU32, value: u32) {
        futex::wait(word, value);
    }

    fn wake(&self, word: &AtomicU32, threads: u32) {
        futex::wake(word, threads);
    }

    fn memory<R>(&self, bytes: usize, borrow: impl FnOnce(&mut [u8]) -> R) -> Result<R, Unavailable> {
        // A multiple of the larger page, so that huge pages can back all of it.
        let len = bytes.checked_next_multiple_of(HUGE).ok_or(Unavailable("no-memory"))?;
        let mut mapping = Mapping::new(len, 0, HUGE, false).map_err(|_| Unavailable("no-memory"))?;
        let huge = self.huge.load(Ordering::Relaxed);
        // A kernel without transparent huge pages refuses, and has none.
        let _ = mapping.advise(if huge { Advice::HugePages } else { Advice::NoHugePages });
        Ok(borrow(&mut mapping.as_mut_slice()[..bytes]))
    }

    fn null(&self, gate: Gate, writable: bool) -> Result<Null, Unavailable> {
        match gate {
            Gate::Syscall => Null::open(writable).map_err(|_| Unavailable("no-null-file")),
            _ => Err(Unavailable("linux-has-only-system-calls")),
        }
    }

    fn datagrams(&self, port: u16, poll: bool, _batch: usize) -> Result<Socket, Unavailable> {
        Socket::bind(port, poll)
    }

    fn disk(&self, index: usize, size: usize, depth: usize, poll: bool) -> Result<Disk, Unavailable> {
        match &*self.file.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(file) => Disk::open(file, size, depth, poll),
            None => Disk::of_guest(index, size, depth, poll),
        }
    }

    fn counters(&self, each: &mut dyn FnMut(&'static str, u64)) {
        let Switches { slept, preempted } = switches();
        each("slept", slept.saturating_sub(self.slept.load(Ordering::Relaxed)));
        each("preempted", preempted.saturating_sub(self.preempted.load(Ordering::Relaxed)));
    }
}
