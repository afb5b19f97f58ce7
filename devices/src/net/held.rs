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
/// Frames that are never held back: half of the ring.
const MOST: u32 = super::QUEUE_SIZE as u32 / 2;

/// Frames that were sent, and whose interrupt is owed.
#[derive(Debug, Default)]
pub struct Held {
    since: Option<Instant>,
    frames: u32,
    /// Since a frame last came in.
    unanswered: u32,
    bytes: u64,
}

impl Held {
    /// So many frames were sent.
    pub fn add(&mut self, frames: u32, bytes: u64) {
        if frames > 0 {
            self.since.get_or_insert_with(Instant::now);
            self.frames += frames;
            self.unanswered += frames;
            self.bytes += bytes;
        }
    }

    /// A frame has come in: the driver will look.
    pub fn answered(&mut self) {
        if self.owed() {
            self.since = Some(Instant::now());
            (self.unanswered, self.bytes) = (0, 0);
        }
    }

    /// True if an interrupt is owed.
    pub fn owed(&self) -> bool {
        self.since.is_some()
    }

    /// True, once, if it is time to ask whether the driver wants it.
    pub fn due(&mut self) -> bool {
        let due = self.frames >= MOST
            || self.unanswered >= FRAMES
            || self.bytes >= BYTES
            || self.since.is_some_and(|since| since.elapsed() >= WAIT);
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
        let mut held = Held::default();
        held.add(0, 0);
        held.answered();
        assert!(!held.owed() && held.nap().is_none() && !held.due());
    }

    #[test]
    fn a_sender_that_may_wait_is_told_at_once() {
        for (frames, bytes) in [(1, BYTES), (FRAMES, 0)] {
            let mut held = Held::default();
            held.add(frames, bytes);
            assert!(held.due() && !held.due(), "{frames} frames of {bytes} bytes");
        }
    }

    #[test]
    fn answers_put_it_off_but_not_for_ever() {
        let mut held = Held::default();
        for sent in 1..=MOST {
            held.add(1, BYTES - 1);
            held.answered();
            assert_eq!(held.due(), sent == MOST);
        }
        held.add(1, 1);
        std::thread::sleep(WAIT);
        assert!(held.due());
    }
}
