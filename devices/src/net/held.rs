//! When a driver is told that frames were sent.
//!
//! It only wants its buffers back, and takes them by itself whenever a frame comes in (Linux's does) or
//! the next one goes out. So the interrupt is held back for a moment in which an answer may come: its
//! interrupt does for both, and by then the driver no longer asks for this one (EVENT_IDX). Never held
//! back is what keeps much of the guest's memory or of the ring, since a sender may be waiting for it.

use std::time::{Duration, Instant};

/// The longest wait.
const WAIT: Duration = Duration::from_millis(2);
/// Frames, and bytes, that are not held back while nothing has come in.
const FRAMES: u32 = 16;
const BYTES: u64 = 32 << 10;

/// Frames that were sent, and whose interrupt is owed.
#[derive(Debug, Default)]
pub struct Held {
    since: Option<Instant>,
    frames: u32,
    /// Since a frame last came in.
    unanswered: u32,
    bytes: u64,
    /// Frames that are never held back, whatever comes in: half of the ring.
    most: u32,
}

impl Held {
    /// So many frames were sent, through a ring of `size` entries.
    pub fn add(&mut self, frames: u32, bytes: u64, size: u16, now: Instant) {
        if frames > 0 {
            self.since.get_or_insert(now);
            self.frames += frames;
            self.unanswered += frames;
            self.bytes += bytes;
            self.most = (u32::from(size) / 2).max(1);
        }
    }

    /// A frame has come in: the driver will look.
    pub fn answered(&mut self, now: Instant) {
        if self.owed() {
            self.since = Some(now);
            (self.unanswered, self.bytes) = (0, 0);
        }
    }

    /// True if an interrupt is owed.
    pub fn owed(&self) -> bool {
        self.since.is_some()
    }

    /// True, once, if it is time to ask whether the driver wants it.
    pub fn due(&mut self, now: Instant) -> bool {
        let Some(since) = self.since else { return false };
        let due = self.frames >= self.most
            || self.unanswered >= FRAMES
            || self.bytes >= BYTES
            || now.saturating_duration_since(since) >= WAIT;
        if due {
            *self = Held::default();
        }
        due
    }

    /// How long a worker may sleep, in milliseconds.
    pub fn nap(&self) -> Option<i32> {
        self.owed().then_some(WAIT.as_millis() as i32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_owed_for_nothing() {
        let (mut held, now) = (Held::default(), Instant::now());
        held.add(0, 0, 256, now);
        held.answered(now);
        assert!(!held.owed() && held.nap().is_none() && !held.due(now + WAIT));
    }

    #[test]
    fn a_sender_that_may_wait_is_told_at_once() {
        for (frames, bytes, size) in [(1, BYTES, 256), (FRAMES, 0, 256), (4, 0, 8)] {
            let (mut held, now) = (Held::default(), Instant::now());
            held.add(frames, bytes, size, now);
            assert!(held.due(now) && !held.due(now), "{frames} frames of {bytes} bytes, ring of {size}");
        }
    }

    #[test]
    fn answers_put_it_off_but_not_for_ever() {
        let (mut held, now) = (Held::default(), Instant::now());
        for sent in 1..=128 {
            held.add(1, BYTES - 1, 256, now);
            held.answered(now);
            assert_eq!(held.due(now), sent == 128);
        }
        held.add(1, 1, 256, now);
        held.answered(now + WAIT / 2);
        assert!(!held.due(now + WAIT) && held.due(now + WAIT * 3 / 2));
    }
}
