//! What this host can do at best: a copy from ring to ring on one CPU, and a flag between two.

use std::hint::{black_box, spin_loop};
use std::io;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use vmm::sys::affinity;

const RING: usize = 256;
const BUFFER: usize = 2048;
/// virtio's header and a frame.
const FRAME: usize = 12 + 64;
const BATCH: usize = 64;
const PACKETS: usize = 1 << 20;
const TRIPS: u64 = 100_000;
const ROUNDS: usize = 5;

/// A ring as virtio has it, in short: what is available, where it lies and how long it is, what was used.
struct Ring {
    available: AtomicU16,
    heads: Vec<u16>,
    descriptors: Vec<(u32, u32)>,
    used: Vec<(u32, u32)>,
    done: AtomicU16,
    buffers: Vec<u8>,
}

impl Ring {
    fn new(len: usize) -> Ring {
        Ring {
            available: AtomicU16::new(0),
            heads: (0..RING as u16).collect(),
            descriptors: (0..RING).map(|slot| ((slot * BUFFER) as u32, len as u32)).collect(),
            used: vec![(0, 0); RING],
            done: AtomicU16::new(0),
            buffers: vec![0x55; RING * BUFFER],
        }
    }
}

/// Nanoseconds for one packet, at best.
pub fn copy() -> f64 {
    let (mut from, mut to) = (black_box(Ring::new(FRAME)), black_box(Ring::new(BUFFER)));
    let once = |from: &mut Ring, to: &mut Ring| {
        let began = Instant::now();
        for batch in 0..PACKETS / BATCH {
            let first = batch * BATCH;
            // Both drivers are always there, and as fast.
            from.available.store((first + BATCH) as u16, Ordering::Release);
            to.available.store((first + BATCH) as u16, Ordering::Release);
            let ready = from.available.load(Ordering::Acquire).min(to.available.load(Ordering::Acquire));
            black_box(ready);
            for slot in (first..first + BATCH).map(|packet| packet % RING) {
                let (source, target) = (from.heads[slot], to.heads[slot]);
                let (at, len) = from.descriptors[usize::from(source)];
                let (room, _) = to.descriptors[usize::from(target)];
                let frame = &from.buffers[at as usize..(at + len) as usize];
                to.buffers[room as usize..(room + len) as usize].copy_from_slice(frame);
                from.used[slot] = (source.into(), 0);
                to.used[slot] = (target.into(), len);
            }
            from.done.store((first + BATCH) as u16, Ordering::Release);
            to.done.store((first + BATCH) as u16, Ordering::Release);
        }
        began.elapsed().as_nanos() as f64 / PACKETS as f64
    };
    (0..ROUNDS).map(|_| once(&mut from, &mut to)).fold(f64::INFINITY, f64::min)
}

/// Nanoseconds for a flag to another CPU and back, at best.
pub fn flag(cpus: &[usize]) -> io::Result<f64> {
    let [here, there, ..] = cpus else { return Err(io::Error::other("needs two CPUs")) };
    let (asked, answered) = (AtomicU64::new(0), AtomicU64::new(0));
    let wait = |flag: &AtomicU64, value: u64| {
        while flag.load(Ordering::Acquire) != value {
            spin_loop();
        }
    };
    let all = TRIPS * ROUNDS as u64;
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            affinity::pin(*there)?;
            for trip in 1..=all {
                wait(&asked, trip);
                answered.store(trip, Ordering::Release);
            }
            io::Result::Ok(())
        });
        affinity::pin(*here)?;
        let mut best = f64::INFINITY;
        for round in 0..ROUNDS as u64 {
            let began = Instant::now();
            for trip in round * TRIPS + 1..=(round + 1) * TRIPS {
                asked.store(trip, Ordering::Release);
                wait(&answered, trip);
            }
            best = best.min(began.elapsed().as_nanos() as f64 / TRIPS as f64);
        }
        affinity::allow(0, cpus)?;
        other.join().map_err(|_| io::Error::other("the other thread panicked"))??;
        Ok(best)
    })
}
