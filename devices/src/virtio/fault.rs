//! DEVICE_NEEDS_RESET: how a serving thread tells the driver that its ring makes no sense
//! (virtio 1.2 §2.1.1), and the user, once.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::interrupt::Line;
use crate::say::say;

/// Lines about one device; a driver that breaks its ring again after each reset must not fill a log.
const MOST_LINES: u64 = 8;

/// Shared between a device's front and whoever serves its queues.
pub struct Fault {
    device: String,
    needs_reset: AtomicBool,
    raised: AtomicU64,
    line: Mutex<Option<Line>>,
}

impl Fault {
    /// No fault yet, in the device of this name.
    pub fn new(device: &str) -> Fault {
        Fault {
            device: device.into(),
            needs_reset: AtomicBool::new(false),
            raised: AtomicU64::new(0),
            line: Mutex::new(None),
        }
    }

    /// The device goes to DEVICE_NEEDS_RESET: the driver is told by a configuration interrupt, the
    /// user by one line, however often it happens before the reset.
    pub fn raise(&self, what: &dyn Display) {
        if self.needs_reset.swap(true, Ordering::AcqRel) {
            return;
        }
        match self.raised.fetch_add(1, Ordering::Relaxed) + 1 {
            nth if nth > MOST_LINES => {}
            MOST_LINES => say(format_args!(
                "{}: {what}; the guest must reset it; from here on such faults are only counted",
                self.device
            )),
            _ => say(format_args!("{}: {what}; the guest must reset it", self.device)),
        }
        if let Some(line) = self.line().as_ref() {
            line.signal();
        }
    }

    /// True from [`Fault::raise`] to [`Fault::clear`].
    pub fn needs_reset(&self) -> bool {
        self.needs_reset.load(Ordering::Acquire)
    }

    /// The driver is told that there is something new in the configuration space.
    pub fn config_changed(&self) {
        if let Some(line) = self.line().as_ref() {
            line.signal();
        }
    }

    /// How often it has come to that.
    pub fn count(&self) -> u64 {
        self.raised.load(Ordering::Relaxed)
    }

    pub(super) fn connect(&self, line: Option<Line>) {
        *self.line() = line;
    }

    pub(super) fn clear(&self) {
        self.needs_reset.store(false, Ordering::Release);
    }

    fn line(&self) -> std::sync::MutexGuard<'_, Option<Line>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
