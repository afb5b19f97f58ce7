//! What one queue did. Written by the one thread that serves it, read by anyone at any time.
//!
//! A cache line of its own for each queue, and plain stores (no locked instruction): the writer
//! never waits for a reader.

use std::fs;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use vmm_sys_util::eventfd::EventFd;

/// The live counters. Only the serving thread adds.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counters {
    pub kicks: Count,
    /// Counted by whoever holds the device's lock, not by the serving thread.
    pub kick_exits: Count,
    pub chains: Count,
    pub bytes: Count,
    pub interrupts: Count,
    pub polls_found: Count,
    pub polls_empty: Count,
    pub errors: Count,
    /// Waits for what the device may do in a second, and how long they were.
    pub throttled: Count,
    pub throttled_ns: Count,
    /// Moves of the worker to the CPU of the vCPU that waits for it, and chains served there.
    pub follows: Count,
    pub beside: Count,
    /// Time for which vhost was told to look for more before it sleeps.
    pub looked_ns: Count,
}

/// What a thread that serves a device has cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadCounts {
    /// As the host shows it.
    pub name: String,
    /// Time on a CPU; `None` where the host doesn't tell.
    pub cpu_ns: Option<u64>,
}

/// Time on a CPU of the thread in this folder of /proc (Linux, sched-stats.rst: it comes first).
pub fn cpu_ns(thread: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{thread}/schedstat")).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

/// A number with one writer.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds; to be called by the owning thread only.
    #[inline]
    pub fn add(&self, more: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(more), Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The counters of one queue, as plain data for the ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueCounts {
    /// A thread of this process has served it: only then are more than its kicks known.
    pub here: bool,
    /// Notifications that reached the event fd, by ioeventfd or by an exit.
    pub kicks: u64,
    /// Those of them that were exits to userspace.
    pub kick_exits: u64,
    /// Descriptor chains served.
    pub chains: u64,
    /// Payload bytes moved, without device headers.
    pub bytes: u64,
    /// Interrupts raised.
    pub interrupts: u64,
    /// Busy polls that found work, and that did not.
    pub polls_found: u64,
    pub polls_empty: u64,
    /// Requests answered with an error.
    pub errors: u64,
    /// Waits for what the device may do in a second, and how long they were.
    pub throttled: u64,
    pub throttled_ns: u64,
    /// Moves of the worker to the CPU of the vCPU that waits for it, and chains served there.
    pub follows: u64,
    pub beside: u64,
    /// Time for which vhost was told to look for more before it sleeps.
    pub looked_ns: u64,
}

impl Counters {
    /// The counts now. A worker never reads its `kick` fd (it is edge-triggered), so the fd itself
    /// knows the kicks that have come since the queue was started.
    pub fn snapshot(&self, kick: &EventFd, here: bool) -> QueueCounts {
        QueueCounts {
            here,
            kicks: self.kicks.get() + pending(kick),
            kick_exits: self.kick_exits.get(),
            chains: self.chains.get(),
            bytes: self.bytes.get(),
            interrupts: self.interrupts.get(),
            polls_found: self.polls_found.get(),
            polls_empty: self.polls_empty.get(),
            errors: self.errors.get(),
            throttled: self.throttled.get(),
            throttled_ns: self.throttled_ns.get(),
            follows: self.follows.get(),
            beside: self.beside.get(),
            looked_ns: self.looked_ns.get(),
        }
    }
}

/// An event fd's count, without taking it (proc(5), /proc/pid/fdinfo: `eventfd-count`, in hex).
pub(crate) fn pending(event: &EventFd) -> u64 {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", event.as_raw_fd())).unwrap_or_default();
    let count = info.lines().find_map(|line| line.strip_prefix("eventfd-count:"));
    count.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kicks_are_seen_without_taking_them() {
        let (counters, kick) = (Counters::default(), EventFd::new(0).unwrap());
        counters.kicks.add(2);
        for _ in 0..20 {
            kick.write(1).unwrap();
        }
        assert_eq!(counters.snapshot(&kick, true).kicks, 22);
        assert_eq!(kick.read().unwrap(), 20);
    }
}
