//! How long a worker looks for more before it sleeps.
//!
//! One that sleeps is woken by a kick: an exit, a wake-up, a CPU that comes out of its idle state, and all the
//! while the guest waits. One that looks instead saves all of these where what it waits for comes soon, and
//! has wasted its time where not. So, where nobody has said how long, it looks for no longer than sleeping
//! would cost, which it measures: never is that more than twice what the better of the two would have cost.
//! And only where waits were that short of late, and one thing came at a time: of a batch it would see the
//! first when the others are not there yet.
//!
//! ```text
//!          so many short waits in a row
//!   asleep ────────────────────────────► awake: looks before it sleeps
//!          ◄────────────────────────────
//!           in vain too often: more of them before the next time
//! ```

use std::time::{Duration, Instant};

use super::crowd::Crowd;
use crate::sys::turns;

/// How long a worker polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusyPoll {
    /// As above.
    Adaptive,
    /// As long as that, whatever comes.
    For(Duration),
}

impl BusyPoll {
    pub const OFF: BusyPoll = BusyPoll::For(Duration::ZERO);

    /// What somebody has asked for; nothing, where nobody has.
    pub fn asked(self) -> Duration {
        match self {
            BusyPoll::Adaptive => Duration::ZERO,
            BusyPoll::For(time) => time,
        }
    }
}

/// What a sleep costs, in terms of the CPU time that the worker itself needs to go to sleep and to wake up:
/// the kick takes its sender as much, and the guest waits while a CPU wakes up. (On hardware that makes the
/// 30 µs or so that QEMU's threads poll for.)
const WORTH: u32 = 8;
/// The longest look, wherever a sleep seems to cost more.
const LONGEST: Duration = Duration::from_millis(1);
/// Sleeps that are measured: the first ones, then one of so many.
const MEASURED: u32 = 16;
const SELDOM: u32 = 64;
/// Short waits in a row before it looks, and before the next time, at most, where it looked in vain.
const FIRST: u32 = 4;
const MOST: u32 = 4096;
/// What a look in vain counts, each other one takes back, and is too much.
const VAIN: u32 = 4;
const TOO_MUCH: u32 = 2 * VAIN;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Asleep { short: u32 },
    Awake { vain: u32 },
}

/// The rule: pure.
#[derive(Debug)]
struct Rule {
    state: State,
    /// Short waits in a row that it takes to look.
    wanted: u32,
    /// Of CPU time, for a sleep.
    cost: Duration,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It was looked for, and found.
    Found,
    /// It was looked for in vain.
    InVain,
    /// Without a look.
    Slept,
}

impl Rule {
    fn new() -> Rule {
        Rule { state: State::Asleep { short: 0 }, wanted: FIRST, cost: Duration::ZERO }
    }

    /// How long a look is worth while.
    fn limit(&self) -> Duration {
        (self.cost * WORTH).min(LONGEST)
    }

    fn looks(&self) -> bool {
        matches!(self.state, State::Awake { .. })
    }

    /// A sleep has taken so much CPU time.
    fn cost(&mut self, cost: Duration) {
        self.cost = if self.cost.is_zero() { cost } else { (self.cost * 7 + cost) / 8 };
    }

    /// A wait, before which one thing was asked for or several, is over.
    fn waited(&mut self, wait: Duration, single: bool, end: End) {
        // It has the wake-up in it.
        let short = single && wait <= self.limit() * 2;
        match &mut self.state {
            State::Asleep { short: row } => {
                *row = if short { *row + 1 } else { 0 };
                if *row >= self.wanted {
                    self.state = State::Awake { vain: 0 };
                }
            }
            State::Awake { vain } if end == End::Found => {
                *vain = vain.saturating_sub(1);
                if *vain == 0 {
                    self.wanted = FIRST;
                }
            }
            State::Awake { .. } if end == End::Slept && short => {}
            State::Awake { vain } => {
                *vain += VAIN;
                if *vain >= TOO_MUCH {
                    self.wanted = (self.wanted * 2).min(MOST);
                    self.state = State::Asleep { short: 0 };
                }
            }
        }
    }
}

/// A wait that has begun.
#[derive(Clone, Copy)]
struct Wait {
    since: Instant,
    /// How long it is looked for.
    look: Duration,
    single: bool,
}

/// A worker's patience.
pub struct Polling {
    how: BusyPoll,
    rule: Rule,
    crowd: Crowd,
    wait: Option<Wait>,
    sleeps: u32,
}

impl Polling {
    pub fn new(how: BusyPoll) -> Polling {
        let crowd = Crowd::new(Instant::now(), turns::lost());
        Polling { how, rule: Rule::new(), crowd, wait: None, sleeps: 0 }
    }

    /// Whether it was asked for, so that nothing else decides.
    pub fn is_asked(&self) -> bool {
        !self.how.asked().is_zero()
    }

    /// Whether it looks before it sleeps where nobody has asked for it.
    pub fn pays(&self) -> bool {
        self.how == BusyPoll::Adaptive && self.rule.looks() && !self.crowd.is_there(Instant::now())
    }

    /// Something was found.
    pub fn found(&mut self) {
        let Some(wait) = self.wait.take() else { return };
        if self.how == BusyPoll::Adaptive {
            let end = if wait.look.is_zero() { End::Slept } else { End::Found };
            self.rule.waited(wait.since.elapsed(), wait.single, end);
        }
    }

    /// Nothing was found: whether to look again. `single`: what was served before came one at a time; `may`:
    /// the CPU is nobody else's.
    pub fn looks_again(&mut self, single: impl FnOnce() -> bool, may: bool) -> bool {
        if self.how == BusyPoll::OFF {
            return false;
        }
        let now = Instant::now();
        let Some(wait) = self.wait else {
            let single = single();
            self.crowd.slept(now);
            let look = match self.how {
                BusyPoll::For(time) => time,
                _ if single && may && self.pays() => self.rule.limit(),
                _ => Duration::ZERO,
            };
            self.wait = Some(Wait { since: now, look, single });
            return !look.is_zero();
        };
        if self.how == BusyPoll::Adaptive && !wait.look.is_zero() {
            self.crowd.look(now, turns::lost);
        }
        now.saturating_duration_since(wait.since) < wait.look
    }

    /// It was away for a moment, on purpose.
    pub fn was_away(&mut self) {
        self.wait = None;
    }

    /// It goes to sleep: since when, and what CPU time it has had, if this sleep is measured.
    pub fn sleeps(&mut self) -> Option<(Instant, Duration)> {
        if self.how != BusyPoll::Adaptive {
            return None;
        }
        self.sleeps = self.sleeps.wrapping_add(1);
        let measured = self.sleeps <= MEASURED || self.sleeps.is_multiple_of(SELDOM);
        measured.then(|| (Instant::now(), turns::spent()))
    }

    /// It has woken, because something came or not.
    pub fn woken(&mut self, came: bool, measured: Option<(Instant, Duration)>) {
        if let Some((since, before)) = measured {
            let cost = turns::spent().saturating_sub(before);
            // Else it has not slept at all.
            if since.elapsed() >= cost * 2 {
                self.rule.cost(cost);
            }
        }
        if self.how != BusyPoll::Adaptive {
            self.wait = None;
        } else if let Some(wait) = self.wait.take_if(|_| came) {
            let end = if wait.look.is_zero() { End::Slept } else { End::InVain };
            self.rule.waited(wait.since.elapsed(), wait.single, end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: Duration = Duration::from_micros(1);

    /// One whose sleeps cost 5 µs.
    fn rule() -> Rule {
        let mut rule = Rule::new();
        rule.cost(5 * US);
        rule
    }

    /// So many waits, of `gap` each and a wake-up of 20 µs where it slept; how often it looked, and in vain.
    fn waits(rule: &mut Rule, count: u32, gap: Duration, single: bool) -> (u32, u32) {
        let (mut looks, mut vain) = (0, 0);
        for _ in 0..count {
            let looked = rule.looks() && single;
            let found = looked && gap < rule.limit();
            looks += u32::from(looked);
            vain += u32::from(looked && !found);
            match (looked, found) {
                (true, true) => rule.waited(gap, single, End::Found),
                (true, false) => rule.waited(gap + 20 * US, single, End::InVain),
                (false, _) => rule.waited(gap + 20 * US, single, End::Slept),
            }
        }
        (looks, vain)
    }

    #[test]
    fn it_looks_for_what_came_soon_of_late() {
        let mut rule = rule();
        assert_eq!(rule.limit(), 40 * US);
        assert_eq!(waits(&mut rule, 100, 30 * US, true), (96, 0));
        // A slower one among them now and then is none of its business.
        for _ in 0..20 {
            assert_eq!(waits(&mut rule, 1, 500 * US, true), (1, 1));
            assert_eq!(waits(&mut rule, 4, 30 * US, true), (4, 0));
        }
    }

    #[test]
    fn an_idle_device_is_looked_at_twice_and_not_again() {
        let mut rule = rule();
        waits(&mut rule, 100, 30 * US, true);
        assert_eq!(waits(&mut rule, 100_000, Duration::from_millis(10), true), (2, 2));
    }

    #[test]
    fn what_comes_just_too_late_is_looked_for_ever_more_rarely() {
        let mut rule = rule();
        let (looks, vain) = waits(&mut rule, 100_000, 50 * US, true);
        assert_eq!(looks, vain);
        assert!(looks < 80, "{looks}");
        // And what comes in time after that is found in the end.
        assert!(waits(&mut rule, 10_000, 30 * US, true).0 > 5_000);
    }

    #[test]
    fn batches_are_not_looked_for() {
        let mut rule = rule();
        assert_eq!(waits(&mut rule, 100, 30 * US, false), (0, 0));
        waits(&mut rule, 100, 30 * US, true);
        assert_eq!(waits(&mut rule, 1, 30 * US, false), (0, 0));
        assert!(rule.looks(), "one is none");
        waits(&mut rule, 1, 30 * US, false);
        assert!(!rule.looks());
    }

    #[test]
    fn sleeps_that_cost_nothing_are_slept_and_none_is_worth_a_millisecond() {
        let mut rule = Rule::new();
        assert_eq!(waits(&mut rule, 100, 30 * US, true), (0, 0));
        rule.cost(Duration::from_secs(1));
        assert_eq!(rule.limit(), LONGEST);
    }

    #[test]
    fn a_worker_is_told_how_long_or_finds_out() {
        let (one, off) = (|| true, BusyPoll::OFF);
        assert!(!Polling::new(off).looks_again(one, true));
        let mut asked = Polling::new(BusyPoll::For(Duration::from_secs(1000)));
        assert!(asked.is_asked() && !asked.pays() && asked.sleeps().is_none());
        assert!(asked.looks_again(one, false) && asked.looks_again(one, false));
        asked.found();
        assert!(asked.wait.is_none());
        let mut finds_out = Polling::new(BusyPoll::Adaptive);
        finds_out.rule.cost(Duration::from_secs(1));
        for _ in 0..FIRST {
            assert!(!finds_out.pays() && !finds_out.looks_again(one, true));
            let measured = finds_out.sleeps();
            assert!(measured.is_some());
            finds_out.woken(true, measured);
        }
        finds_out.rule.cost(Duration::from_secs(1));
        assert!(finds_out.pays());
        assert!(finds_out.looks_again(one, true), "for a millisecond");
        finds_out.found();
        assert!(!finds_out.looks_again(one, false), "beside a vCPU it sleeps");
    }
}
