//! The table of threads; others name a thread by its index.

use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// A link to a thread, or to none. All zero is none, so that tables need no initial value in the
/// kernel's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link(u32);

impl Link {
    pub const NONE: Link = Link(0);

    pub fn to(thread: u32) -> Link {
        Link(thread + 1)
    }

    pub fn thread(self) -> Option<u32> {
        self.0.checked_sub(1)
    }
}

/// A link that changes. [`Ready`](super::ready::Ready) lets the halt gate look at its number.
pub struct LinkCell(pub AtomicU32);

impl LinkCell {
    pub const fn new() -> LinkCell {
        LinkCell(AtomicU32::new(0))
    }

    pub fn get(&self) -> Link {
        Link(self.0.load(Ordering::Relaxed))
    }

    pub fn set(&self, link: Link) {
        self.0.store(link.0, Ordering::Relaxed);
    }

    pub fn replace(&self, link: Link) -> Link {
        Link(self.0.swap(link.0, Ordering::SeqCst))
    }

    /// Sets it to `new` if it is still `old`; else what it is now.
    pub fn exchange(&self, old: Link, new: Link) -> Result<(), Link> {
        let done = self.0.compare_exchange_weak(old.0, new.0, Ordering::SeqCst, Ordering::Relaxed);
        done.map(|_| ()).map_err(Link)
    }
}

/// One thread. A suspended one is in at most one list, by `next`.
pub struct Thread {
    /// Stack pointer while suspended.
    pub stack: AtomicUsize,
    /// The word it waits on.
    pub word: AtomicUsize,
    /// The next in its list.
    pub next: LinkCell,
    /// Where it runs, always.
    cpu: AtomicU32,
}

impl Thread {
    pub const fn new() -> Thread {
        Thread {
            stack: AtomicUsize::new(0),
            word: AtomicUsize::new(0),
            next: LinkCell::new(),
            cpu: AtomicU32::new(0),
        }
    }

    pub fn cpu(&self) -> usize {
        self.cpu.load(Ordering::Relaxed) as usize
    }

    pub fn set_cpu(&self, cpu: usize) {
        self.cpu.store(cpu as u32, Ordering::Relaxed);
    }
}
