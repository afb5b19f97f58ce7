//! What a thread tells of itself when it ends: where it ran, and how long.

use std::fs;

use crate::sys::{affinity, clock};

/// How a thread of the machine has spent its life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time, this thread's own, guest time included.
    pub cpu_ns: u64,
    /// Host CPUs that it may use.
    pub allowed: Vec<usize>,
    /// Moves from CPU to CPU; `None` where the kernel doesn't tell (CONFIG_SCHED_DEBUG).
    pub migrations: Option<u64>,
}

/// Keeps the calling thread on `cpu`.
pub fn pin(cpu: u16) -> std::io::Result<()> {
    affinity::pin(cpu.into())
}

/// The calling thread's.
pub fn usage() -> Usage {
    Usage {
        cpu_ns: clock::now_ns(libc::CLOCK_THREAD_CPUTIME_ID),
        allowed: affinity::allowed(),
        migrations: fs::read_to_string("/proc/thread-self/sched").ok().as_deref().and_then(migrations),
    }
}

fn migrations(sched: &str) -> Option<u64> {
    let line = sched.lines().find(|line| line.starts_with("se.nr_migrations"))?;
    line.rsplit(':').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_read_where_they_are_told() {
        assert_eq!(migrations("a (1)\nse.nr_migrations          :      7\nx : 1"), Some(7));
        assert_eq!(migrations("nothing"), None);
    }

    #[test]
    fn a_thread_has_a_cpu_and_has_used_it() {
        let usage = usage();
        assert!(!usage.allowed.is_empty() && usage.cpu_ns > 0);
    }
}
