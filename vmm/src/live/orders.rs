//! What the main thread asks of vCPU threads, in one word that they read at each turn of their loop.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::run::ledger::{Key, Ledger};

/// Leave the loop for good.
const STOP: u32 = u32::MAX;

/// What vCPU threads are to do. An order is seen at the next turn; a kick makes that now.
pub struct Orders {
    /// 0: nothing yet; [`STOP`]; or the number of the look that somebody takes.
    word: AtomicU32,
    /// Of each vCPU, what it handed over last.
    copies: Vec<Mutex<Vec<Copied>>>,
}

/// A row of a ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    pub key: Key,
    pub count: u64,
    pub ticks: u64,
}

/// The orders as one vCPU thread sees them.
pub struct Reader<'a> {
    orders: &'a Orders,
    vcpu: usize,
    seen: u32,
}

impl Orders {
    pub fn new(vcpus: usize) -> Orders {
        Orders { word: AtomicU32::new(0), copies: (0..vcpus).map(|_| Mutex::default()).collect() }
    }

    /// All are to leave.
    pub fn stop(&self) {
        self.word.store(STOP, Ordering::SeqCst);
    }

    /// All are to hand over a copy.
    pub fn look(&self) {
        let next = |word: u32| (word != STOP).then(|| (word + 1) % STOP);
        // Where it is to stop, there is nothing more to look at.
        let _ = self.word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next);
    }

    /// What vCPU thread number `vcpu` reads.
    pub fn reader(&self, vcpu: usize) -> Reader<'_> {
        Reader { orders: self, vcpu, seen: 0 }
    }

    /// The last copy of each ledger.
    pub fn copies(&self) -> Vec<Vec<Copied>> {
        self.copies.iter().map(|copy| copy.lock().unwrap_or_else(PoisonError::into_inner).clone()).collect()
    }
}

impl Reader<'_> {
    /// Whether to leave; hands over what was asked for.
    #[inline]
    pub fn obey(&mut self, ledger: &Ledger) -> bool {
        let word = self.orders.word.load(Ordering::SeqCst);
        if word == self.seen {
            return false;
        }
        self.seen = word;
        if word != STOP {
            self.hand_over(ledger);
        }
        word == STOP
    }

    #[cold]
    fn hand_over(&self, ledger: &Ledger) {
        let Some(copy) = self.orders.copies.get(self.vcpu) else { return };
        let rows = ledger.phases().flat_map(|(_, table)| table.rows());
        let rows = rows.map(|(key, times)| Copied { key, count: times.count(), ticks: times.total() });
        let mut copy = copy.lock().unwrap_or_else(PoisonError::into_inner);
        copy.clear();
        copy.extend(rows);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::kvm::exit::ExitKind;
    use crate::run::ledger::Exit;

    #[test]
    fn a_copy_is_handed_over_once_for_each_look() {
        let orders = Orders::new(1);
        let mut reader = orders.reader(0);
        let mut ledger = Ledger::new(Arc::default());
        let exit = |ledger: &mut Ledger, at| {
            ledger.returned(Exit { kind: ExitKind::PioWrite, address: 0x61, size: 1 }, at);
            ledger.answered(at + 5);
        };
        exit(&mut ledger, 10);
        assert!(!reader.obey(&ledger));
        assert_eq!(orders.copies(), [vec![]], "nobody has looked");
        orders.look();
        assert!(!reader.obey(&ledger));
        exit(&mut ledger, 20);
        assert!(!reader.obey(&ledger));
        let key = Key { kind: ExitKind::PioWrite, address: 0x61 };
        assert_eq!(orders.copies(), [vec![Copied { key, count: 1, ticks: 5 }]]);
        orders.look();
        orders.stop();
        orders.look();
        assert!(reader.obey(&ledger));
    }
}
