//! Numbers that look like none, the same ones for the same seed (splitmix64; Steele, Lea, Flood 2014).

/// A sequence.
pub struct Random(u64);

impl Random {
    /// The sequence of a seed, for one of those who draw from it.
    pub fn new(seed: u64, who: usize) -> Random {
        let mut random = Random(seed ^ (who as u64) << 56);
        // Neighbouring seeds begin far apart.
        random.0 = random.any();
        random
    }

    pub fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `end`; 0 where there is none.
    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.any()) * end as u128) >> 64) as usize
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of these.
    pub fn of<T: Copy>(&mut self, these: &[T]) -> T {
        these[self.below(these.len())]
    }

    /// A value as programs have it that mean harm: none, all ones, one bit, a small one, anything.
    pub fn value(&mut self) -> u64 {
        match self.below(6) {
            0 => 0,
            1 => u64::MAX,
            2 => 1 << self.below(64),
            3 => (1u64 << self.below(64)).wrapping_sub(1),
            4 => self.below(256) as u64,
            _ => self.any(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_and_another_another() {
        let draw = |seed, who| {
            let mut random = Random::new(seed, who);
            [0; 4].map(|_| random.any())
        };
        assert_eq!(draw(1, 0), draw(1, 0));
        for (seed, who) in [(2, 0), (1, 1), (0, 0)] {
            assert_ne!(draw(1, 0), draw(seed, who));
        }
    }

    #[test]
    fn all_below_come_and_nothing_else() {
        let mut random = Random::new(7, 0);
        let mut seen = [0; 5];
        (0..1000).for_each(|_| seen[random.below(5)] += 1);
        assert!(seen.iter().all(|count| (100..300).contains(count)), "{seen:?}");
        assert_eq!(random.below(0), 0);
    }
}
