//! What a disk did: operations, bytes, errors, latency. Each worker counts for itself and hands its
//! counts over when it stops.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use abi::histogram::Histogram;

use super::request::Op;
use crate::virtio::front::OperationCounts;

/// One kind of operation.
#[derive(Default)]
struct Row {
    bytes: u64,
    errors: u64,
    latency_ns: Histogram,
}

/// Counts of one worker, or of all.
#[derive(Default)]
pub struct Stats([Option<Box<Row>>; Op::ALL.len()]);

impl Stats {
    /// Counts an operation that took `time`, from when it was taken to when it was given back.
    pub fn record(&mut self, op: Op, bytes: u64, failed: bool, time: Duration) {
        let row = self.0[op as usize].get_or_insert_default();
        row.bytes += bytes;
        row.errors += u64::from(failed);
        row.latency_ns.record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    fn merge(&mut self, other: Stats) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            let Some(theirs) = theirs else { continue };
            let mine = mine.get_or_insert_default();
            mine.bytes += theirs.bytes;
            mine.errors += theirs.errors;
            mine.latency_ns.merge(&theirs.latency_ns);
        }
    }
}

/// What all workers of a disk have handed over.
#[derive(Clone, Default)]
pub struct Shared(Arc<Mutex<Stats>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Stats> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what a worker has counted.
    pub fn hand_over(&self, stats: &mut Stats) {
        self.lock().merge(std::mem::take(stats));
    }

    /// As plain data; operations that never came are left out.
    pub fn counts(&self) -> Vec<OperationCounts> {
        let stats = self.lock();
        let rows = Op::ALL.iter().zip(&stats.0).filter_map(|(op, row)| Some((op, row.as_ref()?)));
        rows.map(|(op, row)| OperationCounts {
            name: op.name(),
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
