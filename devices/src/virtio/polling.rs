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

use super::cost::{Cost, Measured};
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
    cost: Cost,
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
        Rule { state: State::Asleep { short: 0 }, wanted: FIRST, cost: Cost::default() }
    }

    fn looks(&self) -> bool {
        matches!(self.state, State::Awake { .. })
    }

    /// A wait, before which one thing was asked for or several, is over.
    fn waited(&mut self, wait: Duration, single: bool, end: End) {
        // It has the wake-up in it.
        let short = single && wait <= self.cost.look() * 2;
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
}

impl Polling {
    pub fn new(how: BusyPoll) -> Polling {
        let crowd = Crowd::new(Instant::now(), turns::lost());
        Polling { how, rule: Rule::new(), crowd, wait: None }
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
                _ if single && may && self.pays() => self.rule.cost.look(),
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

    /// It goes to sleep.
    pub fn sleeps(&mut self) -> Measured {
        if self.how == BusyPoll::Adaptive { self.rule.cost.sleeps() } else { None }
    }

    /// It has woken, because something came or not.
    pub fn woken(&mut self, came: bool, measured: Measured) {
        self.rule.cost.woken(measured);
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
    use super::super::cost;
    use super::*;

    const US: Duration = Duration::from_micros(1);

    /// One whose sleeps cost 5 µs.
    fn rule() -> Rule {
        let mut rule = Rule::new();
        rule.cost.add(5 * US);
        rule
    }

    /// So many waits, of `gap` each and a wake-up of 20 µs where it slept; how often it looked, and in vain.
    fn waits(rule: &mut Rule, count: u32, gap: Duration, single: bool) -> (u32, u32) {
        let (mut looks, mut vain) = (0, 0);
        for _ in 0..count {
            let looked = rule.looks() && single;
            let found = looked && gap < rule.cost.look();
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
        assert_eq!(rule.cost.look(), 40 * US);
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
        rule.cost.add(Duration::from_secs(1));
        assert_eq!(rule.cost.look(), cost::LONGEST);
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
        finds_out.rule.cost.add(Duration::from_secs(1));
        for _ in 0..FIRST {
            assert!(!finds_out.pays() && !finds_out.looks_again(one, true));
            let measured = finds_out.sleeps();
            assert!(measured.is_some());
            finds_out.woken(true, measured);
        }
        finds_out.rule.cost.add(Duration::from_secs(1));
        assert!(finds_out.pays());
        assert!(finds_out.looks_again(one, true), "for a millisecond");
        finds_out.found();
        assert!(!finds_out.looks_again(one, false), "beside a vCPU it sleeps");
    }
}
