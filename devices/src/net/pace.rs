//! How a worker keeps step with a stream that goes out.
//!
//! A driver that sends large frames one by one finds the worker asleep each time, and kicks it for each: an
//! exit, a wake-up, and an interrupt for the acknowledgement, which then comes alone, too. A worker that stays
//! away for as long as the next frames take to come, without asking for a kick, finds several at once. It does
//! so only in the middle of a stream: small frames may be somebody's question, who waits for the answer.

use std::time::{Duration, Instant};

/// Frames of a stream are as large as segmentation offload makes them, or nearly.
const LARGE: u64 = 16 << 10;
/// Batches in a row, each soon after the last, that make a stream.
const STREAM: u32 = 2;
/// The longest wait: less than a sender lets lie in a card (a millisecond's worth, Linux's
/// `tcp_small_queue_check`).
const LONGEST: Duration = Duration::from_micros(800);

/// What has gone out of late.
#[derive(Debug, Default)]
pub struct Pace {
    /// The last batch's end.
    last: Option<Instant>,
    /// From the end of one batch to the start of the next, where a kick announced it.
    gap: Duration,
    batches: u32,
    /// It has waited since the last batch.
    waited: bool,
}

impl Pace {
    /// So many frames were sent from `began` to `now`.
    pub fn sent(&mut self, frames: u32, bytes: u64, began: Instant, now: Instant) {
        if bytes / u64::from(frames.max(1)) < LARGE {
            *self = Pace::default();
            return;
        }
        let gap = self.last.map(|last| began.saturating_duration_since(last));
        match gap {
            Some(gap) if gap <= LONGEST || self.waited => {
                self.batches += 1;
                if !self.waited {
                    self.gap = gap;
                }
            }
            _ => self.batches = 0,
        }
        (self.last, self.waited) = (Some(now), false);
    }

    /// How long to stay away, once after each batch.
    pub fn wait(&mut self) -> Option<Duration> {
        if self.batches < STREAM || self.waited {
            // What was waited for has not come: a kick will tell.
            self.batches = if self.waited { 0 } else { self.batches };
            self.waited = false;
            return None;
        }
        self.waited = true;
        Some((self.gap * 2).min(LONGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_micros(50);

    /// One that has sent `frames` batches of one frame of `bytes`, a step apart, and the time after them.
    fn after(frames: u32, bytes: u64) -> (Pace, Instant) {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        for _ in 0..frames {
            now += STEP;
            pace.sent(1, bytes, now, now);
        }
        (pace, now)
    }

    #[test]
    fn a_stream_is_awaited_for_two_frames_and_once() {
        let (mut pace, now) = after(3, LARGE);
        assert_eq!(pace.wait(), Some(STEP * 2));
        // Two have come meanwhile: it goes on, by the pace that kicks have shown.
        pace.sent(2, 2 * LARGE, now + STEP * 3, now + STEP * 3);
        assert_eq!(pace.wait(), Some(STEP * 2));
        assert_eq!(pace.wait(), None, "nothing has come: the next kick is asked for");
        pace.sent(1, LARGE, now + STEP * 6, now + STEP * 6);
        assert_eq!(pace.wait(), None, "that alone is no stream");
    }

    #[test]
    fn questions_and_first_frames_are_not_kept_waiting() {
        for (frames, bytes) in [(0, LARGE), (1, LARGE), (2, LARGE), (9, LARGE - 1)] {
            assert_eq!(after(frames, bytes).0.wait(), None, "{frames} of {bytes} bytes");
        }
        // A small one among them is somebody's who waits.
        let (mut pace, now) = after(9, LARGE);
        pace.sent(1, 64, now + STEP, now + STEP);
        assert_eq!(pace.wait(), None);
    }

    #[test]
    fn frames_that_are_far_apart_are_no_stream_and_no_wait_is_long() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        for _ in 0..9 {
            now += LONGEST + STEP;
            pace.sent(1, LARGE, now, now);
            assert_eq!(pace.wait(), None);
        }
        for _ in 0..9 {
            now += LONGEST;
            pace.sent(1, LARGE, now, now);
        }
        assert_eq!(pace.wait(), Some(LONGEST));
    }
}
