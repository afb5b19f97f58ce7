//! Phases of a run: from one mark of the guest to the next.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use abi::mark::Mark;

use crate::kvm::stats::Snapshot;
use crate::run::ledger::MAX_PHASES;
use crate::sys::clock::ticks;

/// Where a phase began.
pub struct Boundary {
    /// What the guest said.
    pub mark: Mark,
    /// When, in ticks.
    pub at: u64,
    /// KVM's counters at that moment; `None` where this kernel has none.
    pub stats: Option<Snapshot>,
}

/// Reads KVM's counters.
pub type ReadStats = Box<dyn Fn() -> Option<Snapshot> + Send + Sync>;

/// The phases so far. Marks are rare; only the phase number is read at every exit.
pub struct Phases {
    number: Arc<AtomicU32>,
    begun: Mutex<Vec<Boundary>>,
    read: ReadStats,
    /// When phase 0 began, in ticks.
    pub start: u64,
}

impl Phases {
    pub fn new(start: u64, read: ReadStats) -> Phases {
        Phases { number: Arc::default(), begun: Mutex::default(), read, start }
    }

    /// The number of the phase that the machine is in, as vCPU threads share it.
    pub fn number(&self) -> Arc<AtomicU32> {
        self.number.clone()
    }

    /// `mark` ends the phase and begins the next. Beyond [`MAX_PHASES`] marks change nothing.
    pub fn open(&self, mark: Mark) {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let next = begun.len() as u32 + 1;
        if next < MAX_PHASES {
            begun.push(Boundary { mark, at: ticks(), stats: (self.read)() });
            self.number.store(next, Ordering::Relaxed);
        }
    }

    /// All boundaries, in order.
    pub fn close(&self) -> Vec<Boundary> {
        std::mem::take(&mut self.begun.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_marks_without_end_is_cut_off() {
        let phases = Phases::new(0, Box::new(|| None));
        for _ in 0..1000 {
            phases.open(Mark::Ready);
        }
        assert_eq!(phases.number().load(Ordering::Relaxed), MAX_PHASES - 1);
        assert_eq!(phases.close().len(), MAX_PHASES as usize - 1);
    }
}
