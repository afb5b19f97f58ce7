//! Threads of the lowest priority that keep CPUs from halting: a wake-up finds a CPU that runs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, scope};

use workloads::platform::Unavailable;

use crate::sys::affinity;

/// Runs `work` with so many of them beside it, one on each CPU, then again from the first.
pub fn beside<R>(count: usize, work: impl FnOnce() -> R) -> Result<R, Unavailable> {
    let cpus = affinity::allowed();
    let over = AtomicBool::new(false);
    let hog = |cpu: Option<usize>| {
        // One that may not be idle's own would take time from what is measured: it doesn't run.
        let placed = affinity::only_when_idle().and_then(|()| cpu.map_or(Ok(()), affinity::pin));
        while placed.is_ok() && !over.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
    };
    let hog = &hog;
    scope(|scope| {
        let start = |at: usize| {
            let cpu = at.checked_rem(cpus.len()).and_then(|at| cpus.get(at).copied());
            Builder::new().spawn_scoped(scope, move || hog(cpu)).map(drop)
        };
        let done = (0..count).try_for_each(start).map(|()| work());
        over.store(true, Ordering::Relaxed);
        done.map_err(|_| Unavailable("no-more-threads"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_end_with_the_work() {
        assert_eq!(beside(3, || 7), Ok(7));
    }
}
