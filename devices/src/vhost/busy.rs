//! How long vhost's threads look for more before they sleep, where nobody has said.
//!
//! The kernel polls as long as it is told (`VHOST_SET_VRING_BUSYLOOP_TIMEOUT`), and doesn't say what came of it. So
//! whether it pays is tried out: messages that are answered one by one come more often with it than without, or
//! they don't, and then it is off for longer each time. As it is tried out, a look is twice as long as one of a
//! worker of ours ([`polling`](crate::virtio::polling)), which is what sleeping costs.
//!
//! ```text
//!          short messages, each answered, in a span of time
//!   off ─────────────────────────────────────────────────────► on ◄──────────────┐
//!    ▲ ◄── few messages, or a stream ──────────────────────────┤                 │
//!    │                                                    its term is over       │
//!    │                                                         ▼                 │
//!    └─────────── not: off for longer each time ───── off, to compare ── more came with it: for longer each time
//! ```

use std::io;
use std::time::{Duration, Instant};

use crate::virtio::cost::{Cost, Measured};

/// So long messages are counted before anything is decided.
const SPAN: Duration = Duration::from_millis(50);
/// So many looks apart, they are too far from each other for one.
const FAR: u32 = 4;
/// Longer ones are parts of a stream: what an Ethernet frame holds, its headers and virtio's, and a bit.
const LONG: u64 = 2048;
/// So many hundredths of what comes without it have to come with it.
const GAIN: u64 = 110;
/// How long it is on before it is compared, and how long off after it was in vain: at first and at most.
const ON: Duration = Duration::from_millis(200);
const OFF: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(8);

/// Messages that went out and came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Messages {
    pub sent: u64,
    pub received: u64,
    /// Bytes of one of them.
    pub bytes: u64,
}

impl Messages {
    /// Questions that were answered, if it is questions and answers that they were: one side of a stream is far
    /// ahead of the other, or sends as much as it can.
    fn exchanges(self) -> Option<u64> {
        let (less, more) = (self.sent.min(self.received), self.sent.max(self.received));
        (more <= less + less / 2 && self.bytes <= LONG).then_some(less)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Off, until then at least.
    Off {
        until: Option<Instant>,
    },
    On {
        since: Instant,
    },
    /// Off, to compare with so many exchanges a second.
    Compared {
        with: u64,
    },
}

/// The rule: pure.
#[derive(Debug)]
struct Rule {
    state: State,
    /// The span that is under way.
    began: Instant,
    seen: Messages,
    /// How long it is on before it is compared, and how long off where it was in vain.
    on: Duration,
    off: Duration,
}

impl Rule {
    fn new(now: Instant) -> Rule {
        Rule { state: State::Off { until: None }, began: now, seen: Messages::default(), on: ON, off: OFF }
    }

    /// Whether the kernel shall look.
    fn is_on(&self) -> bool {
        matches!(self.state, State::On { .. })
    }

    /// So many messages have come since the last time, where it would be for as long as `look`. Decides, once there
    /// was enough to see.
    fn came(&mut self, more: Messages, look: Duration, now: Instant) {
        self.seen.sent += more.sent;
        self.seen.received += more.received;
        self.seen.bytes = self.seen.bytes.max(more.bytes);
        let span = now.saturating_duration_since(self.began);
        if span < SPAN {
            return;
        }
        let seen = std::mem::take(&mut self.seen);
        self.began = now;
        let near = |many: &u64| u128::from(*many) * (look * FAR).as_nanos() >= span.as_nanos();
        let rate = seen.exchanges().filter(near).map(|many| (many as f64 / span.as_secs_f64()) as u64);
        self.state = match rate {
            Some(rate) => self.next(rate, now),
            // Nothing that it could be good for.
            None => State::Off { until: None },
        };
    }

    fn next(&mut self, rate: u64, now: Instant) -> State {
        match self.state {
            State::Off { until: Some(until) } if now < until => self.state,
            State::Off { .. } => State::On { since: now },
            State::On { since } if now.saturating_duration_since(since) < self.on => self.state,
            State::On { .. } => State::Compared { with: rate },
            State::Compared { with } if with * 100 >= rate * GAIN => {
                (self.on, self.off) = ((self.on * 2).min(LONGEST), OFF);
                State::On { since: now }
            }
            State::Compared { .. } => {
                let until = Some(now + self.off);
                (self.on, self.off) = (ON, (self.off * 2).min(LONGEST));
                State::Off { until }
            }
        }
    }
}

/// Tells the kernel how long.
pub type Set = Box<dyn Fn(Duration) -> io::Result<()> + Send>;

/// The rule, and the kernel's threads that go by it.
pub struct Busy {
    rule: Rule,
    cost: Cost,
    set: Set,
    /// When it was last looked at.
    seen: Instant,
}

impl Busy {
    /// They don't look yet.
    pub fn new(set: Set) -> Busy {
        let now = Instant::now();
        Busy { rule: Rule::new(now), cost: Cost::default(), set, seen: now }
    }

    /// So many messages have come since the last time. Returns for how long they were looked for.
    pub fn came(&mut self, more: Messages, now: Instant) -> Duration {
        self.turn(now, |rule, look| rule.came(more, look, now))
    }

    /// Nobody counts messages for a while: then it is off. Returns the same.
    pub fn rests(&mut self, now: Instant) -> Duration {
        self.turn(now, |rule, _| rule.state = State::Off { until: None })
    }

    fn turn(&mut self, now: Instant, decide: impl FnOnce(&mut Rule, Duration)) -> Duration {
        let (before, look) = (self.rule.is_on(), self.cost.look() * 2);
        decide(&mut self.rule, look);
        if before != self.rule.is_on() {
            // A kernel that can't (before Linux 4.7) sleeps at once, and it is found to be in vain.
            let _ = (self.set)(if before { Duration::ZERO } else { look });
        }
        let since = now.saturating_duration_since(std::mem::replace(&mut self.seen, now));
        if before { since } else { Duration::ZERO }
    }

    /// The thread that asks goes to sleep.
    pub fn sleeps(&mut self) -> Measured {
        self.cost.sleeps()
    }

    /// It has woken.
    pub fn woken(&mut self, measured: Measured) {
        self.cost.woken(measured);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const LOOK: Duration = Duration::from_micros(500);

    /// Exchanges of `with` and `without` a second for `time`, looked at each 4 ms; for how much of it it was on, and
    /// how often it was turned on.
    fn exchanges(
        rule: &mut Rule,
        now: &mut Instant,
        time: Duration,
        with: u64,
        without: u64,
    ) -> (Duration, u32) {
        let (end, mut on, mut turns) = (*now + time, Duration::ZERO, 0);
        let mut owed = 0;
        while *now < end {
            let before = rule.is_on();
            owed += 4 * if before { with } else { without };
            let each = owed / 1000;
            owed %= 1000;
            on += if before { 4 * MS } else { Duration::ZERO };
            *now += 4 * MS;
            rule.came(Messages { sent: each, received: each, bytes: 64 }, LOOK, *now);
            turns += u32::from(!before && rule.is_on());
        }
        (on, turns)
    }

    #[test]
    fn it_stays_on_where_more_comes_with_it() {
        let mut now = Instant::now();
        let mut rule = Rule::new(now);
        let (on, _) = exchanges(&mut rule, &mut now, 2_000 * MS, 1400, 1000);
        assert!(on >= 1_750 * MS, "{on:?}");
        let (on, _) = exchanges(&mut rule, &mut now, 60_000 * MS, 1400, 1000);
        assert!(on >= 59_000 * MS, "{on:?}");
    }

    #[test]
    fn it_is_tried_ever_more_rarely_where_it_is_in_vain() {
        let mut now = Instant::now();
        let mut rule = Rule::new(now);
        let (on, turns) = exchanges(&mut rule, &mut now, 60_000 * MS, 1000, 1000);
        assert!(turns <= 14 && on <= turns * (ON + 2 * SPAN), "{on:?} {turns}");
        // And yet found to pay when that has changed.
        let (on, _) = exchanges(&mut rule, &mut now, 60_000 * MS, 2000, 1000);
        assert!(on >= 50_000 * MS, "{on:?}");
    }

    #[test]
    fn it_is_off_once_it_no_longer_pays() {
        let mut now = Instant::now();
        let mut rule = Rule::new(now);
        exchanges(&mut rule, &mut now, 5_000 * MS, 1400, 1000);
        assert!(rule.is_on());
        let (on, _) = exchanges(&mut rule, &mut now, 30_000 * MS, 1000, 1000);
        assert!(on <= 10_000 * MS, "{on:?}");
    }

    #[test]
    fn few_messages_and_streams_are_none_of_its_business() {
        let mut now = Instant::now();
        let mut rule = Rule::new(now);
        assert_eq!(exchanges(&mut rule, &mut now, 10_000 * MS, 300, 300), (Duration::ZERO, 0));
        let streams = [(100, 0, 64), (0, 100, 64), (100, 10, 64), (10, 100, 64), (50, 50, 65_000)];
        for (sent, received, bytes) in streams {
            // One that begins ends it.
            exchanges(&mut rule, &mut now, 1_000 * MS, 1400, 1000);
            assert!(rule.is_on());
            for after in 0..100 {
                now += 4 * MS;
                rule.came(Messages { sent, received, bytes }, LOOK, now);
                assert!(after < 26 || !rule.is_on(), "{sent} sent, {received} received, of {bytes} bytes");
            }
        }
    }

    #[test]
    fn silence_ends_it_at_the_first_message_after() {
        let mut now = Instant::now();
        let mut rule = Rule::new(now);
        exchanges(&mut rule, &mut now, 1_000 * MS, 1400, 1000);
        assert!(rule.is_on());
        now += 1_000 * MS;
        rule.came(Messages { sent: 1, received: 1, bytes: 64 }, LOOK, now);
        assert!(!rule.is_on());
    }
}
