//! What the control queue and the host change while a card is in use: read by the threads that receive, and
//! by whoever shows the configuration space.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::filter::{Filter, Mac};

/// Shared by all threads of a card.
pub struct Face {
    given: Mac,
    filter: Mutex<Filter>,
    changes: AtomicU32,
    up: AtomicBool,
}

impl Face {
    /// Of a card that was given this address, on a link that is up or not.
    pub fn new(given: Mac, up: bool) -> Face {
        let (filter, changes, up) = (Mutex::new(Filter::new(given)), AtomicU32::new(0), AtomicBool::new(up));
        Face { given, filter, changes, up }
    }

    fn lock(&self) -> MutexGuard<'_, Filter> {
        self.filter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A driver is gone: the next one finds nothing of what it has set.
    pub fn reset(&self) {
        *self.lock() = Filter::new(self.given);
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// Obeys a command of class RX or MAC.
    pub fn obey(&self, class: u32, command: u32, data: &[u8]) -> bool {
        let done = self.lock().obey(class, command, data);
        self.changes.fetch_add(u32::from(done), Ordering::Release);
        done
    }

    /// The address that it has now.
    pub fn mac(&self) -> Mac {
        self.lock().own()
    }

    /// How often anything has changed; whoever keeps a copy of the filter takes another one then.
    pub fn changes(&self) -> u32 {
        self.changes.load(Ordering::Acquire)
    }

    /// Whether the link is up.
    pub fn up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// The link is up, or it isn't; true if that is new.
    pub fn set_up(&self, up: bool) -> bool {
        self.up.swap(up, Ordering::AcqRel) != up
    }

    pub fn filter(&self) -> Filter {
        self.lock().clone()
    }
}
