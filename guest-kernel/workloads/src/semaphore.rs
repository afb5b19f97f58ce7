//! A counting semaphore over the platform's wait and wake: posting calls the kernel only where
//! somebody waits.

use core::sync::atomic::{AtomicU32, Ordering};

use crate::platform::Platform;

#[derive(Default)]
pub struct Semaphore {
    count: AtomicU32,
    /// Threads that found the count at 0 and may sleep.
    waiters: AtomicU32,
}

impl Semaphore {
    pub const fn new(count: u32) -> Semaphore {
        Semaphore { count: AtomicU32::new(count), waiters: AtomicU32::new(0) }
    }

    /// One more may pass.
    pub fn post<P: Platform>(&self, platform: &P) {
        // Both sides are sequentially consistent: either the poster sees the waiter, or the waiter
        // sees the count.
        self.count.fetch_add(1, Ordering::SeqCst);
        if self.waiters.load(Ordering::SeqCst) > 0 {
            platform.wake(&self.count, 1);
        }
    }

    /// Passes, after sleeping if need be.
    pub fn wait<P: Platform>(&self, platform: &P) {
        if self.pass() {
            return;
        }
        self.waiters.fetch_add(1, Ordering::SeqCst);
        while !self.pass() {
            platform.wait(&self.count, 0);
        }
        self.waiters.fetch_sub(1, Ordering::SeqCst);
    }

    fn pass(&self) -> bool {
        let one_less = |count: u32| count.checked_sub(1);
        self.count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok()
    }
}
