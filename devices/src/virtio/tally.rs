//! What a device did, by kind of operation: how many, bytes, errors, latency. Each worker counts for
//! itself and hands its counts over when it stops.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use abi::histogram::Histogram;

use super::front::OperationCounts;

/// One kind of operation.
#[derive(Default)]
struct Row {
    bytes: u64,
    errors: u64,
    latency_ns: Histogram,
}

/// Counts of one worker, or of all; by the operation's number.
#[derive(Default)]
pub struct Tally(Vec<Option<Box<Row>>>);

impl Tally {
    /// Counts an operation that took `time`, from when it was taken to when it was given back.
    pub fn record(&mut self, operation: usize, bytes: u64, failed: bool, time: Duration) {
        let row = self.row(operation);
        row.bytes += bytes;
        row.errors += u64::from(failed);
        row.latency_ns.record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    fn row(&mut self, operation: usize) -> &mut Row {
        if self.0.len() <= operation {
            self.0.resize_with(operation + 1, || None);
        }
        self.0[operation].get_or_insert_default()
    }

    fn merge(&mut self, other: Tally) {
        for (operation, theirs) in other.0.into_iter().enumerate() {
            let Some(theirs) = theirs else { continue };
            let mine = self.row(operation);
            mine.bytes += theirs.bytes;
            mine.errors += theirs.errors;
            mine.latency_ns.merge(&theirs.latency_ns);
        }
    }
}

/// What all workers of a device have handed over.
#[derive(Clone)]
pub struct Shared {
    names: &'static [&'static str],
    sum: Arc<Mutex<Tally>>,
}

impl Shared {
    /// Nothing yet, of operations that the report calls so, in the order of their numbers.
    pub fn new(names: &'static [&'static str]) -> Shared {
        Shared { names, sum: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.sum.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what a worker has counted.
    pub fn hand_over(&self, tally: &mut Tally) {
        self.lock().merge(std::mem::take(tally));
    }

    /// As plain data; operations that never came are left out.
    pub fn counts(&self) -> Vec<OperationCounts> {
        let sum = self.lock();
        let rows = self.names.iter().zip(&sum.0).filter_map(|(name, row)| Some((name, row.as_ref()?)));
        rows.map(|(name, row)| OperationCounts {
            name,
            count: row.latency_ns.count(),
            bytes: row.bytes,
            errors: row.errors,
            ns_p50: row.latency_ns.p50(),
            ns_p99: row.latency_ns.p99(),
            ns_max: row.latency_ns.max(),
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_add_up_and_what_never_came_is_left_out() {
        let shared = Shared::new(&["read", "write", "flush"]);
        for worker in 1..=3_u64 {
            let mut tally = Tally::default();
            tally.record(2, 0, worker == 3, Duration::from_nanos(worker * 1000));
            tally.record(0, worker, false, Duration::from_nanos(10));
            shared.hand_over(&mut tally);
            shared.hand_over(&mut tally);
        }
        let counts = shared.counts();
        let rows: Vec<_> = counts.iter().map(|row| (row.name, row.count, row.bytes, row.errors)).collect();
        assert_eq!(rows, [("read", 3, 6, 0), ("flush", 3, 0, 1)]);
        assert_eq!((counts[1].ns_max, counts[0].ns_p50), (3000, 10));
    }
}
