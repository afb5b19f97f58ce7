//! What the control queue and the host change while a card is in use: read by the threads that receive, and
//! by whoever shows the configuration space.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::filter::{Filter, Mac};

/// Shared by all threads of a card.
pub struct Face {
    given: Mac,
    filter: Mutex<Filter>,
    changes: AtomicU32,
    up: AtomicBool,
    /// The host's interface is no more.
    gone: AtomicBool,
    /// Errors of that interface, each by its number, that were said already.
    said: Mutex<Vec<Option<i32>>>,
}

impl Face {
    /// Of a card that was given this address, on a link that is up or not.
    pub fn new(given: Mac, up: bool) -> Face {
        let (filter, changes, up) = (Mutex::new(Filter::new(given)), AtomicU32::new(0), AtomicBool::new(up));
        Face { given, filter, changes, up, gone: AtomicBool::new(false), said: Mutex::default() }
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

    /// The link is up, or it isn't; true if that is new. Once its interface is gone it stays down.
    pub fn set_up(&self, up: bool) -> bool {
        let up = up && !self.gone.load(Ordering::Acquire);
        self.up.swap(up, Ordering::AcqRel) != up
    }

    /// The interface is no more; true if the link was up.
    pub fn lose(&self) -> bool {
        self.gone.store(true, Ordering::Release);
        self.set_up(false)
    }

    /// Whether an error of the interface is the first of its kind.
    pub fn is_news(&self, error: &io::Error) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let number = error.raw_os_error();
        let news = !said.contains(&number);
        said.extend(news.then_some(number));
        news
    }

    pub fn filter(&self) -> Filter {
        self.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_whose_interface_is_gone_stays_down() {
        let face = Face::new([0; 6], true);
        assert!(face.set_up(false) && face.set_up(true) && !face.set_up(true));
        assert!(face.lose() && !face.lose() && !face.set_up(true) && !face.up());
    }

    #[test]
    fn each_kind_of_error_is_said_once() {
        let (face, error) = (Face::new([0; 6], true), io::Error::from_raw_os_error);
        assert!(face.is_news(&error(libc::EIO)) && face.is_news(&error(libc::EBADFD)));
        assert!(!face.is_news(&error(libc::EIO)));
    }
}
