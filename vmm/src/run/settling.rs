//! When the pages of code are given back that only the past needed: a start, the guest's boot, a workload.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::sys::own_image;

/// By then the start is over.
const FIRST: Duration = Duration::from_millis(100);
/// From one look to the next.
const BETWEEN: Duration = Duration::from_secs(1);
/// Looks in a row that find nothing new. They are the last: an idle machine wakes nobody.
const ENOUGH: u32 = 10;

/// Looks now and then whether the machine has come to another phase.
pub struct Settling {
    phase: Arc<AtomicU32>,
    /// The phase in which pages were given back last.
    settled: Option<u32>,
    next: Option<Instant>,
    in_vain: u32,
}

impl Settling {
    /// `phase` is that of the machine, which starts now.
    pub fn new(phase: Arc<AtomicU32>) -> Settling {
        Settling { phase, settled: None, next: Some(Instant::now() + FIRST), in_vain: 0 }
    }

    /// When to look next, if ever.
    pub fn deadline(&self) -> Option<Instant> {
        self.next
    }

    /// Looks, if it is time to.
    pub fn tick(&mut self) {
        let now = Instant::now();
        if self.next.is_some_and(|next| now >= next) && self.look(now) {
            own_image::give_back();
        }
    }

    /// Whether there is something new.
    fn look(&mut self, now: Instant) -> bool {
        let phase = Some(self.phase.load(Ordering::Relaxed));
        let moved = std::mem::replace(&mut self.settled, phase) != phase;
        self.in_vain = if moved { 0 } else { self.in_vain + 1 };
        self.next = (self.in_vain < ENOUGH).then_some(now + BETWEEN);
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_a_phase_until_nothing_is_new() {
        let phase = Arc::new(AtomicU32::new(0));
        let mut settling = Settling::new(phase.clone());
        let now = settling.deadline().unwrap();
        assert!(settling.look(now));
        assert!(!settling.look(now));
        phase.store(3, Ordering::Relaxed);
        assert!(settling.look(now));
        for _ in 0..ENOUGH {
            assert_eq!(settling.deadline(), Some(now + BETWEEN));
            assert!(!settling.look(now));
        }
        assert_eq!(settling.deadline(), None);
    }
}
