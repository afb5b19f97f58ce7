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

/// What a thread had behind it when it took its seat: that is not the vCPU's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Before {
    cpu_ns: u64,
    waited_ns: u64,
    switches: Switches,
    migrations: u64,
}

impl Before {
    /// All that the calling thread has done until now. Its moves count on: they are few.
    pub fn now() -> Before {
        Before {
            cpu_ns: clock::now_ns(libc::CLOCK_THREAD_CPUTIME_ID),
            waited_ns: waited_ns().unwrap_or(0),
            switches: thread_switches(),
            migrations: 0,
        }
    }

    /// The same, of a thread that is kept on `cpu` from now on: moves from here on count. The move to its CPU
    /// does not.
    pub fn pinned(self, cpu: u16) -> io::Result<Before> {
        affinity::pin(cpu.into())?;
        Ok(Before { migrations: migrations().unwrap_or(0), ..self })
    }
}

/// The calling thread's.
pub fn usage(before: Before) -> Usage {
    let switches = thread_switches();
    Usage {
        cpu_ns: clock::now_ns(libc::CLOCK_THREAD_CPUTIME_ID) - before.cpu_ns,
        waited_ns: waited_ns().map(|ns| ns.saturating_sub(before.waited_ns)),
        switches: Switches {
            slept: switches.slept - before.switches.slept,
            preempted: switches.preempted - before.switches.preempted,
        },
        allowed: affinity::allowed(),
        migrations: migrations().map(|moves| moves.saturating_sub(before.migrations)),
    }
}

fn waited_ns() -> Option<u64> {
    fs::read_to_string("/proc/thread-self/schedstat").ok().as_deref().and_then(parse_waited)
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
        let usage = usage(Before::default());
        assert!(!usage.allowed.is_empty() && usage.cpu_ns > 0);
    }

    #[test]
    fn what_a_thread_did_before_is_left_out() {
        let began = std::time::Instant::now();
        while began.elapsed() < std::time::Duration::from_millis(5) {}
        let whole = usage(Before::default()).cpu_ns;
        let before = Before::now();
        assert!(usage(before).cpu_ns < usage(Before::default()).cpu_ns - whole / 2);
    }

    #[test]
    fn a_pinned_thread_stays_where_it_is() {
        let usages = std::thread::spawn(|| {
            let cpu = affinity::allowed().last().copied().unwrap_or(0);
            (cpu, usage(Before::default().pinned(cpu as u16).unwrap()))
        });
        let (cpu, usage) = usages.join().unwrap();
        assert_eq!(usage.allowed, [cpu]);
        assert!(matches!(usage.migrations, None | Some(0)), "{usage:?}");
    }
}
