//! What sleeping costs a thread, by its own measure, and for how long it is worth to look for work instead.

use std::time::{Duration, Instant};

use crate::sys::turns;

/// What a sleep costs, in terms of the CPU time that the thread itself needs to go to sleep and to wake up: the
/// kick takes its sender as much, and the guest waits while a CPU wakes up. (On hardware that makes the 30 µs or
/// so that QEMU's threads poll for.)
const WORTH: u32 = 8;
/// The longest look, wherever a sleep seems to cost more.
pub const LONGEST: Duration = Duration::from_millis(1);
/// Sleeps that are measured: the first ones, then one of so many.
const MEASURED: u32 = 16;
const SELDOM: u32 = 64;

/// A thread's sleeps.
#[derive(Debug, Default)]
pub struct Cost {
    sleeps: u32,
    /// Of CPU time, for one.
    each: Duration,
}

/// A sleep that is measured: since when, and what CPU time the thread has had.
pub type Measured = Option<(Instant, Duration)>;

impl Cost {
    /// It goes to sleep.
    pub fn sleeps(&mut self) -> Measured {
        self.sleeps = self.sleeps.wrapping_add(1);
        let measured = self.sleeps <= MEASURED || self.sleeps.is_multiple_of(SELDOM);
        measured.then(|| (Instant::now(), turns::spent()))
    }

    /// It has woken.
    pub fn woken(&mut self, measured: Measured) {
        let Some((since, before)) = measured else { return };
        let cost = turns::spent().saturating_sub(before);
        // Else it has not slept at all.
        if since.elapsed() >= cost * 2 {
            self.add(cost);
        }
    }

    /// One has taken so much.
    pub fn add(&mut self, cost: Duration) {
        self.each = if self.each.is_zero() { cost } else { (self.each * 7 + cost) / 8 };
    }

    /// How long a look is worth while.
    pub fn look(&self) -> Duration {
        (self.each * WORTH).min(LONGEST)
    }
}
