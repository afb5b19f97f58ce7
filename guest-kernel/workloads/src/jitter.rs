//! A thread sleeps until the next beat, again and again: how late it wakes.

use abi::histogram::Histogram;
use abi::record::Record;
use abi::workload::Spec;

use crate::platform::{Platform, Unavailable};
use crate::{Limit, Results};

pub(crate) fn run<P: Platform>(
    platform: &P,
    spec: &Spec<'_>,
    results: Results<'_>,
) -> Result<(), Unavailable> {
    let period = spec.number("period") * 1000;
    let limit = Limit::new(platform, spec, spec.number("items"));
    let mut late = Histogram::new();
    let start = platform.now();
    let (mut beats, mut beat) = (0, start);
    while limit.next(platform, beats, 1) > 0 {
        beat += period;
        platform.sleep_until(beat);
        late.record(platform.now().saturating_sub(beat));
        beats += 1;
    }
    let ns = platform.now() - start;
    let record = Record::new(spec.text(), "-", beats, ns).with("late_p50_ns", late.p50());
    let record = record.with("late_p99_ns", late.p99()).with("late_p999_ns", late.quantile(999));
    results(&record.with("late_max_ns", late.max()));
    Ok(())
}
