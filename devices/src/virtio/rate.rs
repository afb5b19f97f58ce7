//! How much a device may do in a second: bytes and operations, each a token bucket.
//!
//! A bucket is kept as the moment until which all that was done is paid for. What is to be done next may
//! begin when that moment has come; what it takes is known, and charged, afterwards, so one large request
//! never waits for a bucket that could not hold it. Whoever was idle has a tenth of a second's worth to begin
//! with.

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::counters::Counters;

/// What is saved up while nothing is done.
const BURST: Duration = Duration::from_millis(100);

/// A second's worth of each; `None`: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    pub bytes: Option<NonZeroU64>,
    pub operations: Option<NonZeroU64>,
}

/// The buckets of a device, which all of its queues draw from.
#[derive(Debug)]
pub struct Limiter {
    rate: Rate,
    /// Until when bytes, and operations, are paid for.
    paid: Mutex<[Instant; 2]>,
}

impl Limiter {
    /// `None`: there is no limit.
    pub fn new(rate: Rate, now: Instant) -> Option<Arc<Limiter>> {
        let full = now.checked_sub(BURST).unwrap_or(now);
        (rate != Rate::default()).then(|| Arc::new(Limiter { rate, paid: Mutex::new([full; 2]) }))
    }

    /// How long until the next operation may begin.
    fn wait(&self, now: Instant) -> Duration {
        let paid = *self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        paid.into_iter().map(|paid| paid.saturating_duration_since(now)).max().unwrap_or_default()
    }

    /// An operation of so many bytes was done.
    fn charge(&self, bytes: u64, now: Instant) {
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let [of_bytes, of_operations] = &mut *paid;
        pay(of_bytes, self.rate.bytes, bytes, now);
        pay(of_operations, self.rate.operations, 1, now);
    }
}

fn pay(paid: &mut Instant, rate: Option<NonZeroU64>, count: u64, now: Instant) {
    let Some(rate) = rate else { return };
    let ns = u128::from(count) * 1_000_000_000 / u128::from(rate.get());
    let worth = Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX));
    let from = now.checked_sub(BURST).map_or(*paid, |earliest| earliest.max(*paid));
    // A debt of centuries is as good as none to come.
    *paid = from.checked_add(worth).unwrap_or(from);
}

/// A queue's hold on the buckets; without a limit it holds nothing up.
#[derive(Debug, Default)]
pub struct Throttle {
    limiter: Option<Arc<Limiter>>,
    /// Since when, and until when, it waits.
    shut: Option<(Instant, Instant)>,
}

impl Throttle {
    pub fn new(limiter: &Option<Arc<Limiter>>) -> Throttle {
        Throttle { limiter: limiter.clone(), shut: None }
    }

    /// Whether there is a limit at all.
    pub fn limits(&self) -> bool {
        self.limiter.is_some()
    }

    /// Whether the operation that is there may begin now. Counts waits, and how long they were.
    pub fn admits(&mut self, counters: &Counters) -> bool {
        self.admits_at(counters, Instant::now)
    }

    fn admits_at(&mut self, counters: &Counters, now: impl FnOnce() -> Instant) -> bool {
        let Some(limiter) = &self.limiter else { return true };
        let now = now();
        let wait = limiter.wait(now);
        match self.shut {
            None if wait.is_zero() => {}
            Some((since, _)) if wait.is_zero() => {
                counters.throttled_ns.add(u64::try_from((now - since).as_nanos()).unwrap_or(u64::MAX));
                self.shut = None;
            }
            None => {
                counters.throttled.add(1);
                self.shut = Some((now, now + wait));
            }
            Some((since, _)) => self.shut = Some((since, now + wait)),
        }
        wait.is_zero()
    }

    /// An operation of so many bytes was done.
    pub fn charge(&self, bytes: u64) {
        if let Some(limiter) = &self.limiter {
            limiter.charge(bytes, Instant::now());
        }
    }

    /// Whether something waits: a kick would change nothing.
    pub fn is_shut(&self) -> bool {
        self.shut.is_some()
    }

    /// How long the worker may sleep, in milliseconds, as [`Server::nap`](super::userspace::Server::nap)
    /// says it.
    pub fn nap(&self) -> Option<i32> {
        let (_, until) = self.shut?;
        let left = until.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
        Some(i32::try_from(left.as_millis()).unwrap_or(i32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(bytes: u64, operations: u64, now: Instant) -> (Arc<Limiter>, Throttle) {
        let rate = Rate { bytes: NonZeroU64::new(bytes), operations: NonZeroU64::new(operations) };
        let limiter = Limiter::new(rate, now).unwrap();
        let throttle = Throttle::new(&Some(limiter.clone()));
        (limiter, throttle)
    }

    /// Requests of `bytes` that are let through in `time`, asked for each millisecond.
    fn through(bytes: u64, rate: (u64, u64), time: Duration) -> (u64, Counters) {
        let (start, counters) = (Instant::now() + Duration::from_secs(1), Counters::default());
        let (limiter, mut throttle) = limited(rate.0, rate.1, start);
        let mut done = 0;
        for ms in 0..=time.as_millis() as u64 {
            let now = start + Duration::from_millis(ms);
            while throttle.admits_at(&counters, || now) {
                limiter.charge(bytes, now);
                done += 1;
            }
        }
        (done, counters)
    }

    #[test]
    fn a_second_and_what_was_saved_up_pass_and_no_more() {
        // 1,000 in a second, 100 saved up, and one that makes the debt.
        let (done, counters) = through(4096, (0, 1000), Duration::from_secs(1));
        assert_eq!(done, 1101);
        assert!(counters.throttled.get() > 900 && counters.throttled_ns.get() > 900_000_000);
        let (done, _) = through(4096, (4096 * 50, 0), Duration::from_secs(2));
        assert_eq!(done, 106);
        // The lower of the two decides.
        assert_eq!(through(4096, (4096 * 50, 1000), Duration::from_secs(2)).0, 106);
        assert_eq!(through(1, (4096 * 50, 10), Duration::from_secs(2)).0, 22);
    }

    #[test]
    fn a_request_larger_than_any_bucket_passes_and_is_paid_for() {
        let (start, counters) = (Instant::now() + Duration::from_secs(1), Counters::default());
        let (limiter, mut throttle) = limited(1000, 0, start);
        assert!(throttle.admits_at(&counters, || start));
        limiter.charge(5000, start);
        let after = |ms| start + Duration::from_millis(ms);
        assert!(!throttle.admits_at(&counters, || after(4899)) && throttle.is_shut());
        assert!(throttle.admits_at(&counters, || after(4900)) && !throttle.is_shut());
        assert_eq!((counters.throttled.get(), counters.throttled_ns.get()), (1, 1_000_000));
        limiter.charge(u64::MAX, after(4900));
        assert!(!throttle.admits_at(&counters, || after(5000)));
    }

    #[test]
    fn without_a_limit_nothing_waits() {
        assert!(Limiter::new(Rate::default(), Instant::now()).is_none());
        let (counters, mut throttle) = (Counters::default(), Throttle::default());
        throttle.charge(u64::MAX);
        assert!(throttle.admits(&counters) && !throttle.limits() && throttle.nap().is_none());
    }
}
