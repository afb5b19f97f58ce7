//! Where threads wait until all have started: none works alone, should one not start.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::sys::futex;

const CLOSED: u32 = 0;
const OPEN: u32 = 1;
const GIVEN_UP: u32 = 2;

#[derive(Default)]
pub struct Start(AtomicU32);

impl Start {
    /// Waits for the start line; whether to go on.
    pub fn pass(&self) -> bool {
        loop {
            match self.0.load(Ordering::Acquire) {
                CLOSED => futex::wait(&self.0, CLOSED),
                state => return state == OPEN,
            }
        }
    }

    /// Lets all go on, or, where `started` is an error, end.
    pub fn open<E>(&self, started: Result<(), E>) -> Result<(), E> {
        self.0.store(if started.is_ok() { OPEN } else { GIVEN_UP }, Ordering::Release);
        futex::wake(&self.0, u32::MAX);
        started
    }
}
