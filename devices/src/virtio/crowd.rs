//! Polling on a CPU that others want, too.
//!
//! Of two that poll on one CPU each runs for a time slice, milliseconds, of which it needs the first
//! microseconds: by then it waits for the other. So a worker whose CPU was given to others for long polls by
//! naps, and they have what is left. Whether they are still there it finds out by polling as before, rarely
//! while they are.
//!
//! A nap is longer than the worker was there before. A scheduler that has to be fair (EEVDF, since Linux 6.6)
//! lets a thread that wakes have the CPU at once only while it has had no more of it than the others; else it
//! waits for the next tick, milliseconds. And where others fill rings, they need longer for a frame than a
//! worker does: of naps as short as its turns each finds less than the one before, down to where all are busy
//! with taking turns.

use std::time::{Duration, Instant};

/// Longer than interrupts and the kernel's own threads take.
const LONG: Duration = Duration::from_micros(500);
/// The shortest nap, and the longest. Short for those who wait for a frame, and long enough that somebody else
/// gets something done meanwhile: a machine whose host is a guest itself needs 20 µs to be there again.
const NAPS: [Duration; 2] = [Duration::from_micros(40), Duration::from_micros(250)];
/// For so long after a frame it is worth while to wait for its answer, from another CPU, awake.
const LINGER: Duration = Duration::from_micros(5);
/// For so long a crowd is believed in: at first, and at most.
const TERMS: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(250)];

/// What a worker knows of its CPU.
pub struct Crowd {
    /// When the worker was there last.
    seen: Instant,
    /// How often it had lost its CPU by then.
    lost: i64,
    until: Option<Instant>,
    term: Duration,
    /// Since when it has had its CPU.
    since: Instant,
}

impl Crowd {
    pub fn new(now: Instant, lost: i64) -> Crowd {
        Crowd { seen: now, lost, until: None, term: TERMS[0], since: now }
    }

    /// The worker is there, and has not slept since it was there last; `lost` is how often it has lost its
    /// CPU.
    #[inline]
    pub fn look(&mut self, now: Instant, lost: impl Fn() -> i64) {
        let away = now.duration_since(self.seen);
        self.seen = now;
        if away > LONG {
            self.was_away(now, lost());
        }
    }

    #[cold]
    fn was_away(&mut self, now: Instant, lost: i64) {
        self.since = now;
        // Else a host has taken away the CPU itself: nobody here would have it.
        if std::mem::replace(&mut self.lost, lost) == lost {
            return;
        }
        // Again soon after the last time it was tried: they are there to stay.
        let again = self.until.is_some_and(|until| now.duration_since(until) < self.term);
        self.term = if again { (2 * self.term).min(TERMS[1]) } else { TERMS[0] };
        self.until = Some(now + self.term);
    }

    /// It has slept until `now`.
    pub fn slept(&mut self, now: Instant) {
        (self.seen, self.since) = (now, now);
    }

    /// Whether others want its CPU.
    pub fn is_there(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// For how long a worker, with nothing to do since `idle`, leaves its CPU to others; `None`: not now.
    pub fn nap(&self, now: Instant, idle: Duration) -> Option<Duration> {
        let crowded = idle >= LINGER && self.is_there(now);
        let had = now.duration_since(self.since);
        crowded.then(|| (had + had / 2).clamp(NAPS[0], NAPS[1]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Polls from `now` for `time`, a look each 100 µs; whether it napped at the end.
    fn poll(crowd: &mut Crowd, now: &mut Instant, time: Duration, lost: i64) -> bool {
        let end = *now + time;
        while *now < end {
            *now += MS / 10;
            crowd.look(*now, || lost);
        }
        crowd.nap(*now, LINGER).is_some()
    }

    #[test]
    fn who_loses_its_cpu_for_long_polls_by_naps() {
        let mut now = Instant::now();
        let mut crowd = Crowd::new(now, 7);
        // For short; to the host; while it slept.
        assert!(!poll(&mut crowd, &mut now, 5 * MS, 9));
        now += 3 * MS;
        crowd.look(now, || 7);
        assert_eq!(crowd.nap(now, LINGER), None);
        now += 3 * MS;
        crowd.slept(now);
        assert!(!poll(&mut crowd, &mut now, MS, 9));
        now += 3 * MS;
        crowd.look(now, || 10);
        assert!(crowd.nap(now, LINGER).is_some() && crowd.nap(now, Duration::ZERO).is_none());
    }

    #[test]
    fn a_nap_is_longer_than_what_was_taken_before() {
        let mut now = Instant::now();
        let mut crowd = Crowd::new(now, 0);
        now += 3 * MS;
        crowd.look(now, || 1);
        for (had, nap) in [(5, 40), (100, 150), (160, 240), (400, 250)] {
            now += Duration::from_micros(had);
            assert_eq!(crowd.nap(now, LINGER), Some(Duration::from_micros(nap)), "{had}");
            now += MS;
            crowd.slept(now);
        }
        // What others had of it isn't counted.
        now += 3 * MS;
        crowd.look(now, || 2);
        assert_eq!(crowd.nap(now, LINGER), Some(NAPS[0]));
    }

    #[test]
    fn it_tries_again_ever_more_rarely_while_they_are_there() {
        let mut now = Instant::now();
        let mut crowd = Crowd::new(now, 0);
        let mut lost = 0;
        for term in [10, 20, 40, 80, 160, 250, 250] {
            lost += 1;
            now += 3 * MS;
            crowd.look(now, || lost);
            assert!(poll(&mut crowd, &mut now, (term - 1) * MS, lost), "{term}");
            assert!(!poll(&mut crowd, &mut now, 2 * MS, lost), "{term}");
        }
        // They went, and others came.
        poll(&mut crowd, &mut now, 500 * MS, lost);
        now += 3 * MS;
        crowd.look(now, || lost + 1);
        assert!(poll(&mut crowd, &mut now, 9 * MS, lost + 1));
        assert!(!poll(&mut crowd, &mut now, 2 * MS, lost + 1));
    }
}
