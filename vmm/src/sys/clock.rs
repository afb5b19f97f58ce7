//! Time as cheap as it comes: the time stamp counter, and what a tick of it is worth.

use std::time::Duration;

/// The time stamp counter of this CPU, in ticks. A few nanoseconds; not a serializing instruction.
#[inline]
pub fn ticks() -> u64 {
    // SAFETY: RDTSC exists on every x86-64 CPU, and Linux leaves CR4.TSD clear.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// A moment on both clocks. Two of them say what a tick is worth, without asking the kernel for a
/// frequency and without a calibration loop: the machine's own life is the measuring interval.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    ticks: u64,
    ns: u64,
}

impl Moment {
    /// Now, on CLOCK_MONOTONIC_RAW and the time stamp counter.
    pub fn now() -> Moment {
        let before = ticks();
        let ns = now_ns(libc::CLOCK_MONOTONIC_RAW);
        Moment { ticks: before + ticks().saturating_sub(before) / 2, ns }
    }

    /// A moment at which the clocks read this.
    #[cfg(test)]
    pub fn known(ticks: u64, ns: u64) -> Moment {
        Moment { ticks, ns }
    }

    /// What the time stamp counter read.
    pub fn ticks(self) -> u64 {
        self.ticks
    }

    /// The worth of a tick, measured from `self` until `later`. Reading the clocks is uncertain by
    /// some 50 ns, so an interval of 1 ms gives it within 0.01 %.
    pub fn until(self, later: Moment) -> TickRate {
        TickRate { ticks: later.ticks.saturating_sub(self.ticks), ns: later.ns.saturating_sub(self.ns) }
    }
}

/// What ticks are in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct TickRate {
    ticks: u64,
    ns: u64,
}

impl TickRate {
    /// A rate that is known: `ticks` take `ns` nanoseconds.
    pub const fn known(ticks: u64, ns: u64) -> TickRate {
        TickRate { ticks, ns }
    }

    /// `ticks` in nanoseconds; one for one if the interval measured was empty.
    pub fn ns(self, ticks: u64) -> u64 {
        if self.ticks == 0 || self.ns == 0 {
            return ticks;
        }
        let ns = u128::from(ticks) * u128::from(self.ns) / u128::from(self.ticks);
        u64::try_from(ns).unwrap_or(u64::MAX)
    }
}

/// Nanoseconds on one of the kernel's clocks.
pub fn now_ns(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec to the one it is given; a clock that it doesn't know
    // leaves it as it is.
    unsafe { libc::clock_gettime(clock, &mut now) };
    let since = Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0));
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Returns when CLOCK_MONOTONIC has reached `deadline`, in nanoseconds, or later.
pub fn sleep_until_ns(deadline: u64) {
    const SECOND: u64 = 1_000_000_000;
    let then = libc::timespec { tv_sec: (deadline / SECOND) as _, tv_nsec: (deadline % SECOND) as _ };
    while now_ns(libc::CLOCK_MONOTONIC) < deadline {
        // SAFETY: the structure is live; nothing is wanted of the rest.
        unsafe {
            libc::clock_nanosleep(libc::CLOCK_MONOTONIC, libc::TIMER_ABSTIME, &then, std::ptr::null_mut());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleep_never_ends_early() {
        let deadline = now_ns(libc::CLOCK_MONOTONIC) + 2_000_000;
        sleep_until_ns(deadline);
        assert!(now_ns(libc::CLOCK_MONOTONIC) >= deadline);
        sleep_until_ns(0);
    }

    #[test]
    fn ticks_become_nanoseconds() {
        let rate = TickRate::known(3_000_000, 1_000_000);
        assert_eq!(rate.ns(3_000), 1_000);
        assert_eq!(rate.ns(u64::MAX), u64::MAX / 3);
        assert_eq!(TickRate::known(0, 0).ns(7), 7);
    }

    #[test]
    fn a_tick_is_worth_what_the_kernel_says() {
        let start = Moment::now();
        let (t0, n0) = (ticks(), now_ns(libc::CLOCK_MONOTONIC));
        std::thread::sleep(Duration::from_millis(20));
        let (t1, n1) = (ticks(), now_ns(libc::CLOCK_MONOTONIC));
        let rate = start.until(Moment::now());
        let (measured, true_ns) = (rate.ns(t1 - t0), n1 - n0);
        assert!(measured.abs_diff(true_ns) < true_ns / 50, "{measured} ns for {true_ns} ns");
    }
}
