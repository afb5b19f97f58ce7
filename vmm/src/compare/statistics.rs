//! Medians, spreads, and how sure a ratio is.

/// How many times the points are drawn again for an interval.
const RESAMPLES: usize = 2000;

/// The middle of some points, and how far they spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    pub points: usize,
    pub median: f64,
    /// The quartiles: half of the points lie between them.
    pub low: f64,
    pub high: f64,
}

/// `None` without points.
pub fn summary(points: &[f64]) -> Option<Summary> {
    let sorted = sorted(points);
    Some(Summary {
        points: sorted.len(),
        median: quantile(&sorted, 0.5)?,
        low: quantile(&sorted, 0.25)?,
        high: quantile(&sorted, 0.75)?,
    })
}

pub fn median(points: &[f64]) -> Option<f64> {
    quantile(&sorted(points), 0.5)
}

/// What one setting's points are to another's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// Of the medians.
    pub value: f64,
    /// 95 of 100 such intervals hold the true ratio; `None` with fewer than two points on a side.
    pub interval: Option<(f64, f64)>,
}

impl Ratio {
    /// Whether the interval lies beside 1; without an interval nothing can be told.
    pub fn visible(self) -> bool {
        self.interval.is_some_and(|(low, high)| low > 1.0 || high < 1.0)
    }
}

/// `points` in relation to `base`, with the percentile bootstrap's interval (Efron, 1979): both are
/// drawn again, with replacement, and 95 % of the ratios kept. The same points give the same interval.
pub fn ratio(points: &[f64], base: &[f64]) -> Option<Ratio> {
    let of = |points: &[f64], base: &[f64]| {
        let base = median(base).filter(|base| *base != 0.0)?;
        Some(median(points)? / base)
    };
    let value = of(points, base)?;
    if points.len() < 2 || base.len() < 2 {
        return Some(Ratio { value, interval: None });
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut draw =
        |from: &[f64]| -> Vec<f64> { from.iter().map(|_| from[random.below(from.len())]).collect() };
    let ratios: Vec<f64> = (0..RESAMPLES).filter_map(|_| of(&draw(points), &draw(base))).collect();
    let ratios = sorted(&ratios);
    let interval = quantile(&ratios, 0.025).zip(quantile(&ratios, 0.975));
    Some(Ratio { value, interval })
}

fn sorted(points: &[f64]) -> Vec<f64> {
    let mut sorted: Vec<f64> = points.iter().copied().filter(|point| point.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// Between two points, in proportion.
fn quantile(sorted: &[f64], part: f64) -> Option<f64> {
    let at = part * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    Some(below + (above - below) * at.fract())
}

/// SplitMix64 (Steele, Lea, Flood, 2014): drawing points again needs no better randomness.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        // The upper bits of a product: no division, and no bias that matters for a few points.
        ((u128::from(mixed) * limit as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_quartiles() {
        let of = summary(&[5.0, 1.0, 2.0, 4.0, 3.0]).unwrap();
        assert_eq!((of.points, of.low, of.median, of.high), (5, 2.0, 3.0, 4.0));
        assert_eq!(median(&[1.0, 2.0]), Some(1.5));
        assert_eq!(median(&[f64::NAN]), None);
        assert_eq!(summary(&[]), None);
    }

    #[test]
    fn what_differs_by_more_than_its_spread_is_visible() {
        let base = [10.0, 10.2, 9.9, 10.1, 10.0, 10.1];
        let slower: Vec<f64> = base.iter().map(|point| point * 1.5).collect();
        let ratio = super::ratio(&slower, &base).unwrap();
        let (low, high) = ratio.interval.unwrap();
        assert!(ratio.visible() && low > 1.4 && low <= ratio.value && ratio.value <= high && high < 1.6);
        assert_eq!(Some(ratio), super::ratio(&slower, &base), "the same points, the same interval");
        assert!(!super::ratio(&base, &base).unwrap().visible());
        let noisy = [5.0, 20.0, 9.0, 11.0, 7.0, 14.0];
        assert!(!super::ratio(&noisy, &base).unwrap().visible());
    }

    #[test]
    fn too_few_points_have_no_interval() {
        assert_eq!(ratio(&[3.0], &[2.0, 2.0]), Some(Ratio { value: 1.5, interval: None }));
        assert!(!ratio(&[3.0], &[2.0]).unwrap().visible());
        assert_eq!(ratio(&[3.0, 3.0], &[0.0, 0.0]), None);
        assert_eq!(ratio(&[], &[1.0]), None);
    }
}
