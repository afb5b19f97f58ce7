//! The platform of this crate's tests: threads and a futex made of `std`.

extern crate std;

use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use std::string::String;
use std::sync::{Condvar, Mutex};
use std::time::Instant;
use std::vec;
use std::vec::Vec;

use abi::record::Record;
use abi::workload::Spec;

use crate::platform::{Datagrams, Disk, Gate, NullFile, Peer, Platform, Unavailable};

pub struct Host {
    start: Instant,
    lock: Mutex<()>,
    changed: Condvar,
}

/// Runs `text` here; the lines of its records.
pub fn lines(text: &str) -> Vec<String> {
    let host = Host { start: Instant::now(), lock: Mutex::new(()), changed: Condvar::new() };
    let mut lines = Vec::new();
    crate::run(&host, &Spec::parse(text).unwrap(), &mut |record: &Record<'_>| {
        let mut line = String::new();
        record.encode(&mut line).unwrap();
        assert_eq!(Record::decode(&line), Some(*record));
        lines.push(line);
    });
    lines
}

pub struct Null(bool);

impl NullFile for Null {
    fn write(&self, bytes: &[u8]) -> isize {
        if self.0 { bytes.len() as isize } else { -9 }
    }
    fn read(&self, _: &mut [u8]) -> isize {
        0
    }
}

/// No network here.
pub enum NoNetwork {}

impl Datagrams for NoNetwork {
    fn send(&self, _: Peer, _: &[u8]) -> bool {
        match *self {}
    }
    fn receive(&self, _: &mut [u8], _: u64) -> Option<(usize, Peer)> {
        match *self {}
    }
}

/// No disk here.
pub enum NoDisk {}

impl Disk for NoDisk {
    fn capacity(&self) -> u64 {
        match *self {}
    }
    fn submit(&mut self, _: u32, _: u64, _: bool) -> bool {
        match *self {}
    }
    fn complete(&mut self) -> Option<(u32, bool)> {
        match *self {}
    }
}

impl Platform for Host {
    type NullFile = Null;
    type Datagrams = NoNetwork;
    type Disk = NoDisk;

    fn prepare(&self, _: &Spec<'_>) -> Result<(), Unavailable> {
        Ok(())
    }
    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }
    fn sleep_until(&self, deadline: u64) {
        std::thread::sleep(Duration::from_nanos(deadline.saturating_sub(self.now())));
    }
    fn cpus(&self) -> usize {
        2
    }
    fn run(&self, threads: usize, body: &(dyn Fn(usize) + Sync)) -> Result<(), Unavailable> {
        std::thread::scope(|scope| {
            for i in 0..threads {
                scope.spawn(move || body(i));
            }
        });
        Ok(())
    }
    fn wait(&self, word: &AtomicU32, value: u32) {
        let mut held = self.lock.lock().unwrap();
        while word.load(Ordering::SeqCst) == value {
            held = self.changed.wait(held).unwrap();
        }
    }
    fn wake(&self, _: &AtomicU32, _: u32) {
        drop(self.lock.lock().unwrap());
        self.changed.notify_all();
    }
    fn memory<R>(&self, bytes: usize, borrow: impl FnOnce(&mut [u8]) -> R) -> Result<R, Unavailable> {
        Ok(borrow(&mut vec![0xa5; bytes]))
    }
    fn null(&self, gate: Gate, writable: bool) -> Result<Null, Unavailable> {
        match gate {
            Gate::Syscall => Ok(Null(writable)),
            _ => Err(Unavailable("needs-the-built-in-kernel")),
        }
    }
    fn datagrams(&self, _: u16, _: bool, _: usize) -> Result<NoNetwork, Unavailable> {
        Err(Unavailable("no-network"))
    }
    fn disk(&self, _: usize, _: usize, _: usize, _: bool) -> Result<NoDisk, Unavailable> {
        Err(Unavailable("no-disk"))
    }
    fn counters(&self, each: &mut dyn FnMut(&'static str, u64)) {
        each("halts", 0);
    }
}

#[test]
fn null_counts_both_kinds_of_file() {
    let lines = lines("null,calls=100");
    assert!(lines[0].starts_with("null,calls=100 read-only ok ops=200 "), "{lines:?}");
    assert!(lines[0].contains(" refused=100 halts=0"), "{lines:?}");
    assert!(lines[1].contains(" read-write ok ops=200 ") && lines[1].contains(" refused=0"), "{lines:?}");
}

#[test]
fn what_a_platform_lacks_is_said() {
    assert_eq!(
        lines("null,gate=table"),
        ["null,gate=table - unavailable:needs-the-built-in-kernel ops=0 ns=0"]
    );
}

#[test]
fn ipc_hands_over_every_item() {
    assert!(lines("ipc,items=500,spin=10")[0].starts_with("ipc,items=500,spin=10 - ok ops=500 "));
}

#[test]
fn each_workload_gives_its_records() {
    for (text, records) in [
        ("stream,size=96k,rounds=3", 4),
        ("gups,size=64k,items=1000", 1),
        ("linpack,size=64,rounds=2,threads=3", 1),
        ("compress,size=64k", 1),
        ("hackbench,groups=2,loops=3", 1),
        ("pagecache,size=64k", 1),
        ("zeropages,items=200,spin=1", 1),
        ("zeropages,items=200,zeropool=off", 1),
        ("jitter,items=3,period=10", 1),
    ] {
        // These have their loops in instructions, which Miri knows nothing of.
        if cfg!(miri) && (text.starts_with("stream") || text.starts_with("linpack")) {
            continue;
        }
        let lines = lines(text);
        assert_eq!(lines.len(), records, "{lines:?}");
        assert!(lines.iter().all(|line| line.contains(" ok ops=")), "{lines:?}");
    }
}

#[test]
fn the_tagged_cache_keeps_what_is_needed_soon() {
    let hits = |text| lines(text)[0].split("hits=").nth(1).unwrap().split(' ').next().unwrap().parse::<u32>();
    assert_eq!(hits("pagecache,size=1m,cache=lru"), Ok(0));
    assert_eq!(hits("pagecache,size=1m,cache=tagged"), Ok(128));
}
