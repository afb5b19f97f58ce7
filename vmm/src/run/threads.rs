//! What a thread tells of itself when it ends: where it ran, and how long.

use std::{fs, io};

use crate::sys::switches::{Switches, thread_switches};
use crate::sys::{affinity, clock};

/// How a thread of the machine has spent its life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time, this thread's own, guest time included.
    pub cpu_ns: u64,
    /// Time that it was ready to run and another thread had the CPU; `None` where the kernel doesn't
    /// tell (CONFIG_SCHED_INFO).
    pub waited_ns: Option<u64>,
    /// How often it left a CPU.
    pub switches: Switches,
    /// Host CPUs that it may use.
    pub allowed: Vec<usize>,
    /// Moves from CPU to CPU since it was pinned, else in all; `None` where the kernel doesn't tell
    /// (CONFIG_SCHED_DEBUG).
    pub migrations: Option<u64>,
}

/// A thread that was pinned: moves from here on count. The move to its CPU does not.
#[derive(Clone, Copy, Debug)]
pub struct Pinned {
    migrations: Option<u64>,
}

/// Keeps the calling thread on `cpu`.
pub fn pin(cpu: u16) -> io::Result<Pinned> {
    affinity::pin(cpu.into())?;
    Ok(Pinned { migrations: migrations() })
}

/// The calling thread's, and since when its moves count.
pub fn usage(pinned: Option<Pinned>) -> Usage {
    let before = pinned.and_then(|pinned| pinned.migrations).unwrap_or(0);
    Usage {
        cpu_ns: clock::now_ns(libc::CLOCK_THREAD_CPUTIME_ID),
        waited_ns: fs::read_to_string("/proc/thread-self/schedstat").ok().as_deref().and_then(parse_waited),
        switches: thread_switches(),
        allowed: affinity::allowed(),
        migrations: migrations().map(|migrations| migrations.saturating_sub(before)),
    }
}

fn migrations() -> Option<u64> {
    fs::read_to_string("/proc/thread-self/sched").ok().as_deref().and_then(parse_migrations)
}

fn parse_migrations(sched: &str) -> Option<u64> {
    let line = sched.lines().find(|line| line.starts_with("se.nr_migrations"))?;
    line.rsplit(':').next()?.trim().parse().ok()
}

/// The second of three numbers (Documentation/scheduler/sched-stats.rst, /proc/<pid>/schedstat). Only
/// zeroes: a kernel that doesn't count.
fn parse_waited(schedstat: &str) -> Option<u64> {
    let mut numbers = schedstat.split_whitespace().map(|number| number.parse::<u64>().ok());
    let (ran, waited) = (numbers.next()??, numbers.next()??);
    (ran > 0).then_some(waited)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_scheduler_tells_is_read() {
        assert_eq!(parse_migrations("a (1)\nse.nr_migrations          :      7\nx : 1"), Some(7));
        assert_eq!(parse_migrations("nothing"), None);
        assert_eq!(parse_waited("1166276 1522691 3\n"), Some(1_522_691));
        assert_eq!(parse_waited("0 0 0"), None);
        assert_eq!(parse_waited(""), None);
    }

    #[test]
    fn a_thread_has_a_cpu_and_has_used_it() {
        let usage = usage(None);
        assert!(!usage.allowed.is_empty() && usage.cpu_ns > 0);
    }

    #[test]
    fn a_pinned_thread_stays_where_it_is() {
        let usages = std::thread::spawn(|| {
            let cpu = affinity::allowed().last().copied().unwrap_or(0);
            let pinned = pin(cpu as u16).unwrap();
            (cpu, usage(Some(pinned)))
        });
        let (cpu, usage) = usages.join().unwrap();
        assert_eq!(usage.allowed, [cpu]);
        assert!(matches!(usage.migrations, None | Some(0)), "{usage:?}");
    }
}
