//! Memory cut into equal pieces, each lent to one thread at a time.

use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::slice;
use core::sync::atomic::{AtomicBool, Ordering};

/// Most pieces.
pub const MOST: usize = 64;

pub struct Pieces<'a, T> {
    start: *mut T,
    /// Items in a piece.
    len: usize,
    count: usize,
    held: [AtomicBool; MOST],
    whole: PhantomData<&'a mut [T]>,
}

// SAFETY: `hold` gives a piece to one thread at a time.
unsafe impl<T: Send> Sync for Pieces<'_, T> {}

/// One piece; others can have it when this is dropped.
pub struct Held<'p, T> {
    piece: &'p mut [T],
    held: &'p AtomicBool,
}

impl<'a, T> Pieces<'a, T> {
    /// Cuts `whole` into `count` pieces, at most [`MOST`], each a multiple of `step` items; the rest
    /// is left over.
    pub fn new(whole: &'a mut [T], count: usize, step: usize) -> Pieces<'a, T> {
        let count = count.clamp(1, MOST);
        let len = whole.len() / count / step * step;
        let held = [const { AtomicBool::new(false) }; MOST];
        Pieces { start: whole.as_mut_ptr(), len, count, held, whole: PhantomData }
    }

    /// The piece of this number; `None` if there is none, or somebody has it.
    pub fn hold(&self, number: usize) -> Option<Held<'_, T>> {
        let held = self.held.get(number).filter(|_| number < self.count)?;
        if held.swap(true, Ordering::Acquire) {
            return None;
        }
        // SAFETY: inside the whole, and nobody else has it until `held` is false again.
        let piece = unsafe { slice::from_raw_parts_mut(self.start.add(number * self.len), self.len) };
        Some(Held { piece, held })
    }
}

impl<T> Deref for Held<'_, T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        self.piece
    }
}

impl<T> DerefMut for Held<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.piece
    }
}

impl<T> Drop for Held<'_, T> {
    fn drop(&mut self) {
        self.held.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time() {
        let mut memory = [0u8; 103];
        let pieces = Pieces::new(&mut memory, 10, 2);
        let mut third = pieces.hold(2).unwrap();
        assert_eq!(third.len(), 10);
        assert!(pieces.hold(2).is_none() && pieces.hold(10).is_none());
        third.fill(7);
        drop(third);
        assert!(pieces.hold(2).is_some());
        assert_eq!(memory.iter().position(|byte| *byte == 7), Some(20));
    }
}
