//! When this process began.

use crate::sys::clock::{Moment, TickRate, now_ns};

/// Taken by the first line of `main`.
///
/// The kernel tells a process its start only to 10 ms, and that is its fork, not its exec. But a
/// process that was forked to exec this program does little else than exec before `main`, so the CPU
/// time that it has used by then is the time that exec took, to the nanosecond. What it leaves out:
/// waiting for the disk or for a CPU before `main`.
#[derive(Clone, Copy, Debug)]
pub struct Birth {
    main: Moment,
    before_main_ns: u64,
}

/// Whoever used more CPU than this before `main` was a shell that then became us.
const LONGEST_EXEC_NS: u64 = 100_000_000;

impl Birth {
    /// Now, in the first line of `main`.
    pub fn at_main() -> Birth {
        let used = now_ns(libc::CLOCK_PROCESS_CPUTIME_ID);
        let before_main_ns = if used <= LONGEST_EXEC_NS { used } else { 0 };
        Birth { main: Moment::now(), before_main_ns }
    }

    /// A birth with these numbers, in ticks and nanoseconds.
    #[cfg(test)]
    pub fn known(main_ticks: u64, before_main_ns: u64) -> Birth {
        Birth { main: Moment::known(main_ticks, 0), before_main_ns }
    }

    /// What a tick is worth, measured from birth until now.
    pub fn rate(&self) -> TickRate {
        self.main.until(Moment::now())
    }

    /// Microseconds from exec to `ticks`.
    pub fn until_us(&self, ticks: u64, rate: TickRate) -> u64 {
        (self.before_main_ns + rate.ns(ticks.saturating_sub(self.main.ticks()))) / 1000
    }
}
