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

/// The counter's frequency by what kvmclock says of it (KVM's msr.rst, MSR_KVM_SYSTEM_TIME_NEW): so many
/// nanoseconds times 2^32 are a tick, after it was shifted.
pub fn khz(multiplier: u32, shift: i8) -> u32 {
    let khz = (1_000_000u64 << 32) / u64::from(multiplier.max(1));
    let far = u32::from(shift.unsigned_abs());
    let khz = if shift < 0 { khz.checked_shl(far) } else { khz.checked_shr(far) };
    khz.and_then(|khz| u32::try_from(khz).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kvmclock_says_how_fast() {
        // As KVM sets them for 2.25 GHz, 500 MHz and 3 GHz (kvm_get_time_scale).
        for (multiplier, shift, frequency) in
            [(0xe38e_38e3, -1, 2_250_000), (0x8000_0000, 2, 500_000), (0xaaaa_aaaa, -1, 3_000_000)]
        {
            assert!(khz(multiplier, shift).abs_diff(frequency) < 10, "{frequency}");
        }
        assert_eq!((khz(0, -127), khz(1, 127), khz(1, -40)), (0, 0, 0));
    }

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
