//! A log-linear histogram of fixed size: how long things took, without keeping each of them.
//!
//! Values below 16 have a bucket each; above, every power of two is cut into eight buckets of equal
//! width. A quantile answers the middle of its bucket, so it is at most 1/16 (6.25 %) off; count,
//! total and maximum are exact. The unit is the caller's (ticks, nanoseconds, bytes).

/// Buckets per power of two: `1 << SUB_BITS`.
pub const SUB_BITS: u32 = 3;
/// Values below this have a bucket of their own.
pub const LINEAR: u64 = 2 << SUB_BITS;
/// The highest power of two with buckets of its own: 2^42 ns are 73 minutes. What is larger falls
/// into the last bucket.
const TOP_BIT: u32 = 41;
/// All of them.
pub const BUCKETS: usize = LINEAR as usize + (((TOP_BIT - SUB_BITS) as usize) << SUB_BITS);

/// 1.3 KiB; see the [module](self) for its error bound.
#[derive(Clone, Debug)]
pub struct Histogram {
    count: u64,
    total: u64,
    max: u64,
    /// Saturating: a bucket that is full stays full, and only the quantiles suffer.
    buckets: [u32; BUCKETS],
}

impl Histogram {
    /// An empty one.
    pub const fn new() -> Self {
        Histogram { count: 0, total: 0, max: 0, buckets: [0; BUCKETS] }
    }

    /// What somebody else has counted in the same buckets.
    pub const fn of(total: u64, max: u64, count: u64, buckets: [u32; BUCKETS]) -> Self {
        Histogram { count, total, max, buckets }
    }

    /// Counts one value.
    #[inline]
    pub const fn record(&mut self, value: u64) {
        self.count += 1;
        self.total = self.total.saturating_add(value);
        if value > self.max {
            self.max = value;
        }
        let bucket = &mut self.buckets[bucket_of(value)];
        *bucket = bucket.saturating_add(1);
    }

    /// Adds what `other` has counted.
    pub fn merge(&mut self, other: &Histogram) {
        self.count += other.count;
        self.total = self.total.saturating_add(other.total);
        self.max = self.max.max(other.max);
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine = mine.saturating_add(*theirs);
        }
    }

    /// How many values were recorded.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Their sum.
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// The largest; 0 if there is none.
    pub const fn max(&self) -> u64 {
        self.max
    }

    /// The median, within 1/16; 0 if there is no value.
    pub fn p50(&self) -> u64 {
        self.quantile(500)
    }

    /// What 99 % of the values don't exceed, within 1/16; 0 if there is no value.
    pub fn p99(&self) -> u64 {
        self.quantile(990)
    }

    /// The smallest recorded value, within 1/16, that `permille` of all values don't exceed.
    pub fn quantile(&self, permille: u32) -> u64 {
        let sum: u64 = self.buckets.iter().map(|&n| u64::from(n)).sum();
        let rank = (u128::from(sum) * u128::from(permille.min(1000))).div_ceil(1000).max(1) as u64;
        let mut seen = 0;
        for (bucket, &n) in self.buckets.iter().enumerate() {
            seen += u64::from(n);
            if seen >= rank {
                return middle_of(bucket).min(self.max);
            }
        }
        self.max
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram::new()
    }
}

#[inline]
const fn bucket_of(value: u64) -> usize {
    if value < LINEAR {
        return value as usize;
    }
    let bit = value.ilog2();
    if bit > TOP_BIT {
        return BUCKETS - 1;
    }
    let octave = (bit - SUB_BITS - 1) as usize;
    let sub = (value >> (bit - SUB_BITS)) as usize & ((1 << SUB_BITS) - 1);
    LINEAR as usize + (octave << SUB_BITS) + sub
}

const fn middle_of(bucket: usize) -> u64 {
    if bucket < LINEAR as usize {
        return bucket as u64;
    }
    let above = bucket - LINEAR as usize;
    let octave = (above >> SUB_BITS) as u32;
    let sub = (above & ((1 << SUB_BITS) - 1)) as u64;
    // A bucket of this octave is `1 << (octave + 1)` wide, so half of that reaches its middle.
    (((1 << SUB_BITS) + sub) << (octave + 1)) + (1 << octave)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values around every bucket border, up to the last.
    fn probes() -> impl Iterator<Item = u64> {
        (0..=TOP_BIT).flat_map(|bit| {
            (0..16u64).flat_map(move |sixteenth| {
                let value = (1u64 << bit) + ((sixteenth << bit) >> 4);
                [value.saturating_sub(1), value, value + 1]
            })
        })
    }

    #[test]
    fn quantiles_keep_their_bound() {
        for value in probes() {
            let mut one = Histogram::new();
            one.record(value);
            one.record(u64::MAX); // so that the clamp to the maximum cannot help
            let error = one.p50().abs_diff(value);
            assert!(error * 16 <= value, "{value} answers {}", one.p50());
        }
    }

    #[test]
    fn count_total_and_max_are_exact() {
        let mut h = Histogram::new();
        for value in 1..=1000 {
            h.record(value);
        }
        assert_eq!((h.count(), h.total(), h.max()), (1000, 500_500, 1000));
        assert!(h.p50().abs_diff(500) * 16 <= 500, "{}", h.p50());
        assert!(h.p99().abs_diff(990) * 16 <= 990, "{}", h.p99());
    }

    #[test]
    fn merging_is_counting_all_in_one() {
        let (mut a, mut b, mut both) = (Histogram::new(), Histogram::new(), Histogram::new());
        for value in 0..500 {
            a.record(value);
            b.record(value * 1000);
            both.record(value);
            both.record(value * 1000);
        }
        a.merge(&b);
        assert_eq!((a.count(), a.total(), a.max()), (both.count(), both.total(), both.max()));
        assert_eq!((a.p50(), a.p99()), (both.p50(), both.p99()));
    }

    #[test]
    fn extremes_neither_panic_nor_lie() {
        let mut h = Histogram::new();
        assert_eq!((h.p50(), h.p99(), h.max()), (0, 0, 0));
        h.record(u64::MAX);
        h.record(u64::MAX);
        assert_eq!((h.count(), h.total(), h.max()), (2, u64::MAX, u64::MAX));
        assert!(h.p99() >= 1 << TOP_BIT);
        assert!(size_of::<Histogram>() <= 1536);
    }
}
