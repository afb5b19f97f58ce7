//! The rule: pure, told what happens and when.
//!
//! ```text
//!            so many kicks in a row, each        the guest has halted
//!            with all that was asked for         in half of a trial
//!    apart ────────────────────────────► trying ─────────────────────► beside
//!      ▲ ▲                                 │ ▲                          │ │
//!      │ └──────── it has not: more ───────┘ └──── from time to time ───┘ │
//!      │           kicks before the next                                  │
//!      └────────────── more was asked for than was being served ──────────┘
//! ```

use std::time::{Duration, Instant};

/// Kicks in a row before the first trial, and before the next, at most, where trials fail.
const FIRST: u32 = 16;
const MOST: u32 = 4096;
/// Kicks of a trial, and how many of them the guest must have halted for.
const TRIAL: u32 = 4;
const HALTED: u32 = 2;
/// How long a request of a trial is left alone: as long as the driver takes from one to the next, within these.
const SHORTEST: Duration = Duration::from_micros(50);
const LONGEST: Duration = Duration::from_millis(2);
/// Kicks beside it, and how much time, before the next trial: the host's scheduler then has its way, too.
const STAY: u32 = 512;
const STAY_TIME: Duration = Duration::from_millis(200);
/// Without a kick for so long it leaves.
pub const IDLE: Duration = Duration::from_millis(20);
/// What an exception counts, each kick without one takes back, and is too much.
const EXCEPTION: u32 = 4;
const TOO_MUCH: u32 = 2 * EXCEPTION;

/// What a worker does before it serves what it was kicked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    Serve,
    /// Leaves it alone for so long, and tells by [`Rule::tried`] whether the guest has halted.
    Wait(Duration),
}

/// Where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Go {
    Nowhere,
    Beside,
    Apart,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Apart { kicks: u32 },
    Trying { left: u32, halted: u32 },
    Beside { kicks: u32, exceptions: u32, since: Instant },
}

#[derive(Debug)]
pub struct Rule {
    place: Place,
    /// Kicks in a row that the next trial takes.
    wanted: u32,
    last: Option<Instant>,
    /// Between the last two kicks outside of trials.
    gap: Duration,
}

impl Default for Rule {
    fn default() -> Rule {
        Rule { place: Place::Apart { kicks: 0 }, wanted: FIRST, last: None, gap: LONGEST }
    }
}

impl Rule {
    pub fn is_beside(&self) -> bool {
        matches!(self.place, Place::Beside { .. })
    }

    pub fn is_trying(&self) -> bool {
        matches!(self.place, Place::Trying { .. })
    }

    /// A kick has come.
    pub fn kicked(&mut self, now: Instant) -> Deed {
        let last = self.last.replace(now);
        if self.is_trying() {
            return Deed::Wait(self.gap.clamp(SHORTEST, LONGEST));
        }
        self.gap = last.map_or(LONGEST, |last| now.saturating_duration_since(last));
        Deed::Serve
    }

    /// In a trial the guest has halted, or not.
    pub fn tried(&mut self, has_halted: bool) {
        if let Place::Trying { left, halted } = &mut self.place {
            *left -= 1;
            *halted += u32::from(has_halted);
        }
    }

    /// What had been asked for was served. `closed`: it was all there at once, nothing came meanwhile and
    /// nothing is under way; `kicked`: a kick was the reason to look; `polls`: a worker on its own finds what
    /// comes next before it sleeps, or would.
    pub fn served(&mut self, closed: bool, kicked: bool, polls: bool, now: Instant) -> Go {
        match &mut self.place {
            Place::Apart { kicks } => {
                *kicks = if closed && !polls { *kicks + u32::from(kicked) } else { 0 };
                if *kicks >= self.wanted {
                    self.place = Place::Trying { left: TRIAL, halted: 0 };
                }
            }
            Place::Trying { .. } if !closed => self.give_up(),
            Place::Trying { left: 0, halted } if *halted >= HALTED => {
                self.wanted = FIRST;
                self.place = Place::Beside { kicks: 0, exceptions: 0, since: now };
                return Go::Beside;
            }
            Place::Trying { left: 0, .. } => self.give_up(),
            Place::Trying { .. } => {}
            Place::Beside { kicks, exceptions, since } => {
                *kicks += u32::from(kicked);
                *exceptions = if closed { exceptions.saturating_sub(1) } else { *exceptions + EXCEPTION };
                if *exceptions >= TOO_MUCH {
                    self.give_up();
                    return Go::Apart;
                }
                if *kicks >= STAY || now.saturating_duration_since(*since) >= STAY_TIME {
                    self.place = match polls {
                        true => Place::Apart { kicks: 0 },
                        false => Place::Trying { left: TRIAL, halted: 0 },
                    };
                    return Go::Apart;
                }
            }
        }
        Go::Nowhere
    }

    /// Nothing has come for some time.
    pub fn slept(&mut self, now: Instant) -> Go {
        let idle = self.last.is_none_or(|last| now.saturating_duration_since(last) >= IDLE);
        if !self.is_beside() || !idle {
            return Go::Nowhere;
        }
        self.place = Place::Apart { kicks: 0 };
        Go::Apart
    }

    fn give_up(&mut self) {
        self.wanted = (self.wanted * 2).min(MOST);
        self.place = Place::Apart { kicks: 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_micros(300);

    /// A driver, and what its worker has done for it.
    struct Played {
        rule: Rule,
        now: Instant,
        waits: u32,
        /// The worker finds what it looks for, or would.
        polls: bool,
    }

    impl Played {
        fn new() -> Played {
            Played { rule: Rule::default(), now: Instant::now(), waits: 0, polls: false }
        }

        /// So many kicks of a guest that halts while it waits, or not.
        fn kicks(&mut self, count: u32, closed: bool, halts: bool) -> Vec<Go> {
            let kick = |_| {
                self.now += STEP;
                match self.rule.kicked(self.now) {
                    Deed::Serve => {}
                    Deed::Wait(time) => {
                        assert_eq!(time, STEP);
                        self.waits += 1;
                        self.rule.tried(halts);
                    }
                }
                self.rule.served(closed, true, self.polls, self.now)
            };
            (0..count).map(kick).filter(|go| *go != Go::Nowhere).collect()
        }
    }

    #[test]
    fn one_request_at_a_time_brings_it_beside_after_a_trial() {
        let mut played = Played::new();
        assert!(played.kicks(FIRST + TRIAL - 1, true, true).is_empty() && !played.rule.is_beside());
        assert_eq!(played.kicks(1, true, true), [Go::Beside]);
        assert_eq!(played.waits, TRIAL);
    }

    #[test]
    fn a_guest_that_does_something_else_meanwhile_is_left_alone_and_asked_ever_more_rarely() {
        let mut played = Played::new();
        assert!(played.kicks(100_000, true, false).is_empty());
        assert!(played.waits < 40 * TRIAL, "{}", played.waits);
        // Its other work has ended.
        assert_eq!(played.kicks(MOST + TRIAL, true, true).first(), Some(&Go::Beside));
    }

    #[test]
    fn it_is_tried_again_from_time_to_time() {
        let mut played = Played::new();
        played.kicks(FIRST + TRIAL, true, true);
        assert_eq!(played.kicks(STAY + TRIAL, true, true), [Go::Apart, Go::Beside]);
        assert_eq!(played.kicks(STAY + TRIAL, true, false), [Go::Apart]);
        assert!(!played.rule.is_beside());
    }

    #[test]
    fn what_is_no_such_pattern_lets_it_go_at_once() {
        let mut played = Played::new();
        assert!(played.kicks(1000, false, true).is_empty() && played.waits == 0);
        played.kicks(FIRST + TRIAL, true, true);
        // One exception is none, two are.
        assert!(played.kicks(1, false, true).is_empty());
        assert!(played.kicks(EXCEPTION, true, true).is_empty());
        assert_eq!(played.kicks(2, false, true), [Go::Apart]);
        // It does not come back as soon.
        assert!(played.kicks(FIRST + TRIAL, true, true).is_empty());
        assert_eq!(played.kicks(FIRST, true, true), [Go::Beside]);
    }

    #[test]
    fn where_polling_pays_it_goes_nowhere_and_leaves_when_its_time_is_up() {
        let mut played = Played { polls: true, ..Played::new() };
        assert!(played.kicks(10_000, true, true).is_empty() && played.waits == 0);
        played.polls = false;
        assert_eq!(played.kicks(FIRST + TRIAL, true, true), [Go::Beside]);
        played.polls = true;
        assert_eq!(played.kicks(STAY, true, true), [Go::Apart]);
        assert!(!played.rule.is_trying());
    }

    #[test]
    fn what_comes_without_a_kick_is_no_request() {
        let mut rule = Rule::default();
        for _ in 0..1000 {
            assert_eq!(rule.served(true, false, false, Instant::now()), Go::Nowhere);
        }
        assert!(!rule.is_trying());
    }

    #[test]
    fn it_leaves_when_nobody_waits_any_more_and_when_it_was_there_for_long() {
        let mut played = Played::new();
        assert_eq!(played.rule.slept(played.now), Go::Nowhere);
        played.kicks(FIRST + TRIAL, true, true);
        assert_eq!(played.rule.slept(played.now + IDLE / 2), Go::Nowhere);
        assert_eq!(played.rule.slept(played.now + IDLE), Go::Apart);
        assert_eq!(played.rule.slept(played.now + IDLE), Go::Nowhere);
        assert_eq!(played.kicks(FIRST + TRIAL, true, true), [Go::Beside]);
        played.now += STAY_TIME;
        assert_eq!(played.kicks(1, true, true), [Go::Apart]);
        assert!(played.rule.is_trying());
    }
}
