//! Who waits on which word. A wake-up that nobody waits for costs one load.

use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::thread::{Link, LinkCell, Thread};

const BUCKETS: usize = 64;

/// Threads by the address of their word.
pub struct Waiters([Bucket; BUCKETS]);

#[repr(align(64))]
struct Bucket {
    locked: AtomicBool,
    count: AtomicU32,
    head: LinkCell,
    tail: LinkCell,
}

impl Waiters {
    pub const fn new() -> Waiters {
        Waiters([const { Bucket::new() }; BUCKETS])
    }

    /// Adds `thread` as waiting on `word`, unless `word` holds another value than `value` by then.
    ///
    /// The count goes up before the word is read, and a waker changes the word before it reads the
    /// count: one of them sees the other.
    pub fn add(&self, threads: &[Thread], thread: u32, word: &AtomicU32, value: u32) -> bool {
        let bucket = self.bucket(word);
        bucket.lock();
        bucket.count.fetch_add(1, Ordering::SeqCst);
        let waits = word.load(Ordering::SeqCst) == value;
        if waits {
            let this = &threads[thread as usize];
            this.word.store(word.as_ptr() as usize, Ordering::Relaxed);
            this.next.set(Link::NONE);
            match bucket.tail.replace(Link::to(thread)).thread() {
                Some(last) => threads[last as usize].next.set(Link::to(thread)),
                None => bucket.head.set(Link::to(thread)),
            }
        } else {
            bucket.count.fetch_sub(1, Ordering::SeqCst);
        }
        bucket.unlock();
        waits
    }

    /// Takes the thread that has waited longest on `word`.
    pub fn take(&self, threads: &[Thread], word: &AtomicU32) -> Option<u32> {
        let bucket = self.bucket(word);
        if bucket.count.load(Ordering::SeqCst) == 0 {
            return None;
        }
        bucket.lock();
        let taken = bucket.unlink(threads, word.as_ptr() as usize);
        bucket.unlock();
        taken
    }

    /// Forgets everything; no CPU may be in `add` or `take`, or was stopped there for good.
    pub fn clear(&self) {
        for bucket in &self.0 {
            bucket.head.set(Link::NONE);
            bucket.tail.set(Link::NONE);
            bucket.count.store(0, Ordering::Relaxed);
            bucket.unlock();
        }
    }

    fn bucket(&self, word: &AtomicU32) -> &Bucket {
        let address = word.as_ptr() as usize;
        &self.0[(address >> 2 ^ address >> 8) % BUCKETS]
    }
}

impl Bucket {
    const fn new() -> Bucket {
        Bucket {
            locked: AtomicBool::new(false),
            count: AtomicU32::new(0),
            head: LinkCell::new(),
            tail: LinkCell::new(),
        }
    }

    /// Held for some ten instructions.
    fn lock(&self) {
        while self.locked.swap(true, Ordering::Acquire) {
            spin_loop();
        }
    }

    fn unlock(&self) {
        self.locked.store(false, Ordering::Release);
    }

    fn unlink(&self, threads: &[Thread], word: usize) -> Option<u32> {
        let mut before = Link::NONE;
        let mut at = self.head.get();
        while let Some(thread) = at.thread() {
            let next = threads[thread as usize].next.get();
            if threads[thread as usize].word.load(Ordering::Relaxed) == word {
                match before.thread() {
                    Some(previous) => threads[previous as usize].next.set(next),
                    None => self.head.set(next),
                }
                if next == Link::NONE {
                    self.tail.set(before);
                }
                self.count.fetch_sub(1, Ordering::SeqCst);
                return Some(thread);
            }
            (before, at) = (at, next);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_has_its_own_line() {
        let threads = [const { Thread::new() }; 6];
        let waiters = Waiters::new();
        // 64 words apart: the same bucket, or not; both must work.
        let words = [const { AtomicU32::new(7) }; 200];
        for (thread, word) in [(0, 0), (1, 64), (2, 0), (3, 199), (4, 0)] {
            assert!(waiters.add(&threads, thread, &words[word], 7));
        }
        assert!(!waiters.add(&threads, 5, &words[0], 8), "the word has changed");
        assert_eq!(waiters.take(&threads, &words[1]), None);
        assert_eq!(waiters.take(&threads, &words[64]), Some(1));
        let in_order: [_; 4] = core::array::from_fn(|_| waiters.take(&threads, &words[0]));
        assert_eq!(in_order, [Some(0), Some(2), Some(4), None]);
        assert_eq!(waiters.take(&threads, &words[199]), Some(3));
        assert!(waiters.add(&threads, 0, &words[0], 7));
        assert_eq!(waiters.take(&threads, &words[0]), Some(0));
    }
}
