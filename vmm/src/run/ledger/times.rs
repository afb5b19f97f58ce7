//! How long the exits of one row took: the first few one by one, then a histogram.
//!
//! Most rows of a machine have a handful of exits (a register that is set up once), so a histogram
//! for each would be most of the monitor's private memory.

use abi::histogram::Histogram;

/// Values kept one by one.
const FEW: usize = 6;

/// Durations in ticks.
#[derive(Clone, Debug)]
pub enum Times {
    Few { len: u8, ticks: [u64; FEW] },
    Many(Box<Histogram>),
}

impl Default for Times {
    fn default() -> Self {
        Times::Few { len: 0, ticks: [0; FEW] }
    }
}

impl Times {
    /// Counts one duration.
    #[inline]
    pub fn record(&mut self, value: u64) {
        match self {
            Times::Many(histogram) => histogram.record(value),
            Times::Few { len, ticks } => match ticks.get_mut(usize::from(*len)) {
                Some(slot) => {
                    *slot = value;
                    *len += 1;
                }
                None => self.spill(value),
            },
        }
    }

    #[cold]
    fn spill(&mut self, value: u64) {
        let mut histogram = Box::new(Histogram::new());
        self.add_to(&mut histogram);
        histogram.record(value);
        *self = Times::Many(histogram);
    }

    /// How many durations were recorded.
    pub fn count(&self) -> u64 {
        match self {
            Times::Few { len, .. } => u64::from(*len),
            Times::Many(histogram) => histogram.count(),
        }
    }

    /// Their sum.
    pub fn total(&self) -> u64 {
        match self {
            Times::Few { len, ticks } => ticks.iter().take(usize::from(*len)).sum(),
            Times::Many(histogram) => histogram.total(),
        }
    }

    /// Adds these durations to a histogram: the sum of phases, or of vCPUs.
    pub fn add_to(&self, sum: &mut Histogram) {
        match self {
            Times::Few { len, ticks } => ticks.iter().take(usize::from(*len)).for_each(|&t| sum.record(t)),
            Times::Many(histogram) => sum.merge(histogram),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_where_few_become_many() {
        for n in 0..=20u64 {
            let mut times = Times::default();
            (1..=n).for_each(|value| times.record(value));
            let mut sum = Histogram::new();
            times.add_to(&mut sum);
            assert_eq!((times.count(), sum.count(), sum.max()), (n, n, n));
            assert_eq!((times.total(), sum.total()), (n * (n + 1) / 2, n * (n + 1) / 2));
        }
    }
}
