//! A value that one thread at a time has, for a few instructions.

use core::cell::UnsafeCell;
use core::hint::spin_loop;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, Ordering};

/// Nobody who holds it waits for anything, so that threads of one CPU never find it taken.
pub struct Spin<T> {
    held: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: `held` lets one thread at the value at a time.
unsafe impl<T: Send> Sync for Spin<T> {}

/// The value, until this is dropped.
pub struct Held<'s, T>(&'s Spin<T>);

impl<T> Spin<T> {
    pub const fn new(value: T) -> Spin<T> {
        Spin { held: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    pub fn lock(&self) -> Held<'_, T> {
        loop {
            match self.try_lock() {
                Some(held) => return held,
                None => spin_loop(),
            }
        }
    }

    pub fn try_lock(&self) -> Option<Held<'_, T>> {
        (!self.held.swap(true, Ordering::Acquire)).then_some(Held(self))
    }

    /// Takes it from a thread that was given up while it held it.
    pub fn recover(&self, value: T) {
        drop(Held(self));
        *self.lock() = value;
    }
}

impl<T> Deref for Held<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: whoever has this holds it.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> DerefMut for Held<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T> Drop for Held<'_, T> {
    fn drop(&mut self) {
        self.0.held.store(false, Ordering::Release);
    }
}
