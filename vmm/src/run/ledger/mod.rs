//! What one vCPU thread counts: each return to userspace, by kind, address and phase, with the time
//! until the guest runs again.
//!
//! The thread owns its ledger and hands it back by value when it ends: no lock, no line shared with
//! another CPU that is written often, no system call. An exit costs two reads of the time stamp
//! counter, one load of the phase number and a store or two.
//!
//! ```text
//! KVM_RUN returns ─► returned(exit, now) ─► the exit is answered ─► answered(now) ─► KVM_RUN
//!                    which phase is it in?                          count it there, with its ticks
//! ```

mod recent;
mod table;
mod times;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

pub use recent::{Exit, Recent};
pub use table::{Key, Table};
pub use times::Times;

/// Phases told apart; a guest that marks more finds the rest in the last one.
pub const MAX_PHASES: u32 = 64;
/// Rows of all phases of a vCPU together: at 1.4 KiB each no guest can make a ledger larger than
/// 1.4 MiB.
const MAX_ROWS_OF_ALL: usize = 1024;

/// The counts of one vCPU.
#[derive(Debug)]
pub struct Ledger {
    /// Written by whichever thread handles a mark; rarely.
    phase: Arc<AtomicU32>,
    /// Ascending by phase number; a phase without an exit has no table.
    phases: Vec<(u32, Table)>,
    rows: usize,
    recent: Recent,
    /// The exit that is being answered, and when it came.
    open: Option<(Key, u64)>,
}

impl Ledger {
    /// An empty ledger. `phase` is the number of the phase that the machine is in, from 0 on, only
    /// ever counted up.
    pub fn new(phase: Arc<AtomicU32>) -> Ledger {
        Ledger { phase, phases: Vec::new(), rows: 0, recent: Recent::default(), open: None }
    }

    /// `KVM_RUN` has returned, at `now` in ticks. The exit belongs to the phase of this moment: one
    /// that opens a new phase is still the old one's.
    #[inline]
    pub fn returned(&mut self, exit: Exit, now: u64) {
        let phase = self.phase.load(Ordering::Relaxed).min(MAX_PHASES - 1);
        if self.phases.last().is_none_or(|(last, _)| *last < phase) {
            self.phases.push((phase, Table::default()));
        }
        self.recent.push(exit);
        self.open = Some((Key { kind: exit.kind, address: exit.address }, now));
    }

    /// The exit has been answered, at `now` in ticks: the next thing is `KVM_RUN`, or the end of the
    /// thread.
    #[inline]
    pub fn answered(&mut self, now: u64) {
        if let (Some((key, since)), Some((_, table))) = (self.open.take(), self.phases.last_mut()) {
            let new = table.record(key, now.saturating_sub(since), self.rows < MAX_ROWS_OF_ALL);
            self.rows += usize::from(new);
        }
    }

    /// The tables by phase number, ascending.
    pub fn phases(&self) -> impl Iterator<Item = (u32, &Table)> {
        self.phases.iter().map(|(phase, table)| (*phase, table))
    }

    /// The last exits, the one being answered included.
    pub fn recent(&self) -> &Recent {
        &self.recent
    }

    /// All exits counted.
    pub fn count(&self) -> u64 {
        self.phases.iter().map(|(_, table)| table.count()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kvm::exit::ExitKind;

    fn port(address: u64) -> Exit {
        Exit { kind: ExitKind::PioWrite, address, size: 1 }
    }

    #[test]
    fn an_exit_belongs_to_the_phase_in_which_it_returned() {
        let phase = Arc::new(AtomicU32::new(0));
        let mut ledger = Ledger::new(phase.clone());
        ledger.returned(port(0x504), 100);
        phase.store(2, Ordering::Relaxed); // the mark that this exit carried
        ledger.answered(160);
        ledger.returned(port(0x3f8), 200);
        ledger.answered(230);
        let counts: Vec<_> = ledger.phases().map(|(n, table)| (n, table.count())).collect();
        assert_eq!(counts, [(0, 1), (2, 1)]);
    }

    #[test]
    fn marks_and_addresses_without_end_stay_bounded() {
        let phase = Arc::new(AtomicU32::new(0));
        let mut ledger = Ledger::new(phase.clone());
        for i in 0..200_000u64 {
            phase.store((i / 300) as u32, Ordering::Relaxed);
            ledger.returned(port(i), i);
            ledger.answered(i);
        }
        assert_eq!(ledger.phases().count(), MAX_PHASES as usize);
        assert_eq!(ledger.count(), 200_000);
        assert!(ledger.rows <= MAX_ROWS_OF_ALL);
        assert_eq!(ledger.recent().iter().last(), Some(port(199_999)));
    }

    #[test]
    fn a_clock_that_steps_back_counts_as_no_time() {
        let mut ledger = Ledger::new(Arc::default());
        ledger.returned(port(1), 100);
        ledger.answered(90);
        ledger.answered(500); // nothing is open
        assert_eq!(ledger.count(), 1);
    }
}
