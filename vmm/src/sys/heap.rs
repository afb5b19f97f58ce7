//! The heap: what a start allocates lies side by side in one block, all else is the C library's.
//!
//! A start makes some hundreds of small things (the flags, their help, the devices) and gives most of them
//! back at once. musl's allocator asks the kernel for each few of them by an `mmap`, and gives them back by
//! a `munmap`: ninety system calls, a quarter of the time from exec to a guest that is ready. In the block
//! an allocation is an addition. Only the newest piece is ever used again; a block that is full is left
//! alone, so that a machine that runs has the C library's hardened heap.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes: what a machine without devices allocates until it runs. Pages of it that are never reached are none.
/// For a sanitizer there is no block: it looks after the C library's pieces alone.
const SIZE: usize = if cfg!(feature = "fuzz") { 0 } else { 160 << 10 };

/// What a piece is aligned to at least. Where panics unwind (in tests; a release aborts), libunwind counts on
/// 16 for the exception, of which the standard library asks 8: tests that failed died of SIGSEGV instead.
const LEAST: usize = if cfg!(panic = "unwind") { 16 } else { 1 };

#[global_allocator]
static HEAP: Heap = Heap { block: UnsafeCell::new(Block([0; SIZE])), used: AtomicUsize::new(0) };

#[repr(C, align(4096))]
struct Block([u8; SIZE]);

struct Heap {
    block: UnsafeCell<Block>,
    /// Bytes of the block that are taken, from its start.
    used: AtomicUsize,
}

// SAFETY: a byte of the block belongs to the one piece that it is part of, as `used` hands them out.
unsafe impl Sync for Heap {}

impl Heap {
    fn start(&self) -> *mut u8 {
        self.block.get().cast()
    }

    /// Where in the block `piece` is.
    fn offset(&self, piece: *mut u8) -> Option<usize> {
        (piece as usize).checked_sub(self.start() as usize).filter(|offset| *offset < SIZE)
    }

    /// Bytes in the block for `layout`.
    fn take(&self, layout: Layout) -> Option<*mut u8> {
        let mut offset = 0;
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            offset = used.checked_next_multiple_of(layout.align().max(LEAST))?;
            offset.checked_add(layout.size()).filter(|end| *end <= SIZE)
        });
        // SAFETY: the offset is within the block.
        taken.ok().map(|_| unsafe { self.start().add(offset) })
    }

    /// Makes the piece at `offset` as long as `size`, if it is the newest and there is room.
    fn resize(&self, offset: usize, layout: Layout, size: usize) -> bool {
        let end = offset.checked_add(size).filter(|end| *end <= SIZE);
        end.is_some_and(|end| {
            let used = offset + layout.size();
            self.used.compare_exchange(used, end, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        })
    }
}

// SAFETY: pieces of the block do not overlap, are aligned and as long as was asked; others are the C library's.
// Whose a piece is, its address tells.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        self.take(layout).unwrap_or_else(|| unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match self.take(layout) {
            Some(piece) => {
                // SAFETY: the piece is the caller's. It may have been another's before.
                unsafe { piece.write_bytes(0, layout.size()) };
                piece
            }
            // SAFETY: the caller's promise is passed on.
            None => unsafe { System.alloc_zeroed(layout) },
        }
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        match self.offset(piece) {
            Some(offset) => _ = self.resize(offset, layout, 0),
            // SAFETY: the caller's promise is passed on.
            None => unsafe { System.dealloc(piece, layout) },
        }
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(offset) = self.offset(piece) else {
            // SAFETY: the caller's promise is passed on.
            return unsafe { System.realloc(piece, layout, size) };
        };
        if self.resize(offset, layout, size) || size <= layout.size() {
            return piece;
        }
        // SAFETY: the caller promises that the size suits the alignment; the new piece is longer than the old.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !new.is_null() {
                new.copy_from_nonoverlapping(piece, layout.size());
                self.dealloc(piece, layout);
            }
            new
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heap() -> Box<Heap> {
        Box::new(Heap { block: UnsafeCell::new(Block([7; SIZE])), used: AtomicUsize::new(0) })
    }

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 8).unwrap()
    }

    #[test]
    fn pieces_lie_side_by_side_and_the_newest_grows_in_place() {
        let heap = heap();
        // SAFETY: pieces are used within their sizes, and given back once.
        unsafe {
            let one = heap.alloc(Layout::new::<u8>());
            let two = heap.alloc_zeroed(layout(16));
            assert_eq!(two as usize - one as usize, LEAST.max(8));
            assert_eq!(std::slice::from_raw_parts(two, 16), [0; 16]);
            assert_eq!(heap.realloc(two, layout(16), 64), two);
            let three = heap.alloc(layout(8));
            assert_eq!(three as usize - two as usize, 64);
            two.write_bytes(3, 64);
            let moved = heap.realloc(two, layout(64), 128);
            assert!(moved as usize > three as usize);
            assert_eq!(std::slice::from_raw_parts(moved, 64), [3; 64]);
            let used = heap.used.load(Ordering::Relaxed);
            heap.dealloc(moved, layout(128));
            assert_eq!(used - heap.used.load(Ordering::Relaxed), 128);
            heap.dealloc(one, Layout::new::<u8>());
            assert_eq!(used - heap.used.load(Ordering::Relaxed), 128, "it was not the newest");
        }
    }

    #[test]
    fn beyond_the_block_is_the_c_librarys() {
        let heap = heap();
        // SAFETY: as above.
        unsafe {
            let nearly = heap.alloc(layout(SIZE - 8));
            let beyond = heap.alloc_zeroed(layout(16));
            assert!(heap.offset(nearly) == Some(0) && heap.offset(beyond).is_none());
            let beyond = heap.realloc(beyond, layout(16), 32);
            beyond.write_bytes(1, 32);
            heap.dealloc(beyond, layout(32));
            let moved = heap.realloc(nearly, layout(SIZE - 8), SIZE + 8);
            assert!(heap.offset(moved).is_none());
            assert_eq!(heap.used.load(Ordering::Relaxed), 0);
            heap.dealloc(moved, layout(SIZE + 8));
        }
    }

    #[test]
    fn threads_never_share_a_piece() {
        let heap = heap();
        let pieces: Vec<usize> = std::thread::scope(|scope| {
            let take = || (0..1000).map(|_| heap.take(layout(16)).unwrap() as usize).collect::<Vec<_>>();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let mut sorted = pieces;
        sorted.sort_unstable();
        assert!(sorted.windows(2).all(|pair| pair[1] - pair[0] >= 16));
    }
}
