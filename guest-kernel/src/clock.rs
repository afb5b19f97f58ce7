//! Ticks of the time stamp counter to nanoseconds and back.

use core::sync::atomic::{AtomicU64, Ordering};

/// Nanoseconds in a tick, times 2^32; 0 before the frequency is known.
pub struct Clock(AtomicU64);

impl Clock {
    pub const fn new() -> Clock {
        Clock(AtomicU64::new(0))
    }

    /// Sets the counter's frequency.
    pub fn set(&self, khz: u32) {
        self.0.store((1_000_000u64 << 32) / u64::from(khz.max(1)), Ordering::Relaxed);
    }

    /// Nanoseconds that `ticks` take.
    pub fn ns(&self, ticks: u64) -> u64 {
        ((u128::from(ticks) * u128::from(self.0.load(Ordering::Relaxed))) >> 32) as u64
    }

    /// Ticks in `ns`.
    pub fn ticks(&self, ns: u64) -> u64 {
        ((u128::from(ns) << 32) / u128::from(self.0.load(Ordering::Relaxed).max(1))) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_a_second() {
        let clock = Clock::new();
        for khz in [1_000_000, 2_999_997, 800_000] {
            clock.set(khz);
            assert!(clock.ns(u64::from(khz) * 1000).abs_diff(1_000_000_000) < 10, "{khz}");
            assert!(clock.ticks(1_000_000_000).abs_diff(u64::from(khz) * 1000) < 10, "{khz}");
        }
    }
}
