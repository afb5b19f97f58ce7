//! A CPU's threads that can run, first come first served. Any CPU adds; its own takes.

use core::sync::atomic::Ordering;

use super::thread::{Link, LinkCell, Thread};

/// Two lists of threads.
pub struct Ready {
    /// Added since the last look: a stack, newest first.
    added: LinkCell,
    /// The CPU's own, oldest first.
    own: LinkCell,
}

impl Ready {
    pub const fn new() -> Ready {
        Ready { added: LinkCell::new(), own: LinkCell::new() }
    }

    /// Adds `thread`, from any CPU.
    pub fn add(&self, threads: &[Thread], thread: u32) {
        let mut newest = self.added.get();
        loop {
            threads[thread as usize].next.set(newest);
            match self.added.exchange(newest, Link::to(thread)) {
                Ok(()) => return,
                Err(now) => newest = now,
            }
        }
    }

    /// Takes the oldest; only by the CPU whose queue this is.
    pub fn take(&self, threads: &[Thread]) -> Option<u32> {
        if self.own.get() == Link::NONE {
            self.move_added(threads);
        }
        let thread = self.own.get().thread()?;
        self.own.set(threads[thread as usize].next.get());
        Some(thread)
    }

    /// Whether there is anything to take; only by the CPU whose queue this is.
    pub fn is_empty(&self) -> bool {
        self.own.get() == Link::NONE && self.added.0.load(Ordering::SeqCst) == 0
    }

    /// Turns what was added around.
    fn move_added(&self, threads: &[Thread]) {
        if self.added.get() == Link::NONE {
            return;
        }
        let mut newest = self.added.replace(Link::NONE);
        let mut list = Link::NONE;
        while let Some(thread) = newest.thread() {
            newest = threads[thread as usize].next.get();
            threads[thread as usize].next.set(list);
            list = Link::to(thread);
        }
        self.own.set(list);
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.added.replace(Link::NONE);
        self.own.set(Link::NONE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_come_first_served() {
        let threads = [const { Thread::new() }; 5];
        let ready = Ready::new();
        assert_eq!(ready.take(&threads), None);
        ready.add(&threads, 3);
        ready.add(&threads, 0);
        ready.add(&threads, 4);
        assert_eq!(ready.take(&threads), Some(3));
        ready.add(&threads, 3);
        ready.add(&threads, 1);
        assert!(!ready.is_empty());
        let rest: [_; 4] = core::array::from_fn(|_| ready.take(&threads));
        assert_eq!(rest, [Some(0), Some(4), Some(3), Some(1)]);
        assert!(ready.is_empty() && ready.take(&threads).is_none());
    }
}
