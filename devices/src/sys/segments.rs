//! Scattered guest memory: the readable or the writable half of a descriptor chain, as a cursor.
//!
//! A system call reads or fills it in place ([`super::file`]); small headers are copied.

use std::ptr;

use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

use super::Memory;

/// Pieces of guest memory in order, and how many of their bytes are used up.
pub struct Segments {
    pieces: Vec<libc::iovec>,
    /// The first piece not yet used up; it is shortened in place.
    next: usize,
    /// Bytes left.
    left: usize,
    /// Every piece points into it: it stays mapped while they are here.
    memory: Memory,
}

// SAFETY: the pointers are into `memory`, which is held, shared and only touched by raw copies.
unsafe impl Send for Segments {}

impl Segments {
    /// Nothing yet.
    pub fn new(memory: &Memory) -> Segments {
        Segments { pieces: Vec::new(), next: 0, left: 0, memory: memory.clone() }
    }

    /// Nothing yet, in the same memory.
    pub fn empty(&self) -> Segments {
        Segments::new(&self.memory)
    }

    /// Forgets everything, keeps its storage.
    pub fn clear(&mut self) {
        self.pieces.clear();
        self.next = 0;
        self.left = 0;
    }

    /// Appends `address..address + len`; a range that crosses regions becomes several pieces.
    /// False, with nothing to rely on, where any of it is not memory.
    pub fn push(&mut self, mut address: u64, len: u32) -> bool {
        let mut rest = u64::from(len);
        while rest > 0 {
            let Some((region, offset)) = self.memory.to_region_addr(GuestAddress(address)) else {
                return false;
            };
            let Ok(base) = region.get_host_address(offset) else { return false };
            let here = rest.min(region.len() - offset.0);
            self.pieces.push(libc::iovec { iov_base: base.cast(), iov_len: here as usize });
            self.left += here as usize;
            rest -= here;
            if rest > 0 {
                let Some(next) = address.checked_add(here) else { return false };
                address = next;
            }
        }
        true
    }

    /// Bytes left.
    pub fn len(&self) -> usize {
        self.left
    }

    /// True if no byte is left.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// What is left, for a vectored system call.
    pub fn iovecs(&self) -> &[libc::iovec] {
        &self.pieces[self.next..]
    }

    /// Copies `data` to `offset` of what is left, and uses nothing up. What does not fit is lost.
    pub fn poke(&self, mut offset: usize, mut data: &[u8]) {
        for piece in self.iovecs() {
            if offset >= piece.iov_len {
                offset -= piece.iov_len;
                continue;
            }
            let here = data.len().min(piece.iov_len - offset);
            // SAFETY: `offset + here` bytes are inside the piece; `data` is ours.
            unsafe { ptr::copy_nonoverlapping(data.as_ptr(), piece.iov_base.cast::<u8>().add(offset), here) };
            data = &data[here..];
            if data.is_empty() {
                return;
            }
            offset = 0;
        }
    }

    /// Copies from `offset` of what is left, and uses nothing up. What is not there stays as it is in `out`.
    pub fn peek(&self, mut offset: usize, mut out: &mut [u8]) {
        for piece in self.iovecs() {
            if offset >= piece.iov_len {
                offset -= piece.iov_len;
                continue;
            }
            let here = out.len().min(piece.iov_len - offset);
            // SAFETY: `offset + here` bytes are inside the piece; `out` is ours.
            unsafe {
                ptr::copy_nonoverlapping(piece.iov_base.cast::<u8>().add(offset), out.as_mut_ptr(), here)
            };
            out = &mut out[here..];
            if out.is_empty() {
                return;
            }
            offset = 0;
        }
    }

    /// True if every piece starts and ends at a multiple of `align`.
    pub fn aligned(&self, align: u32) -> bool {
        let align = align as usize;
        self.iovecs().iter().all(|piece| (piece.iov_base as usize | piece.iov_len).is_multiple_of(align))
    }

    /// Moves every piece of `other` to the end of this.
    pub fn append(&mut self, other: &Segments) {
        debug_assert!(std::sync::Arc::ptr_eq(&self.memory, &other.memory));
        self.pieces.extend_from_slice(other.iovecs());
        self.left += other.left;
    }

    /// Cuts the last `count` bytes off into `tail`; false if there are fewer.
    pub fn split_tail(&mut self, count: usize, tail: &mut Segments) -> bool {
        tail.clear();
        if count > self.left {
            return false;
        }
        let mut rest = count;
        while rest > 0 {
            let Some(piece) = self.pieces.last_mut() else { return false };
            let here = rest.min(piece.iov_len);
            piece.iov_len -= here;
            // SAFETY: inside the same piece.
            let base = unsafe { piece.iov_base.cast::<u8>().add(piece.iov_len) };
            tail.pieces.insert(0, libc::iovec { iov_base: base.cast(), iov_len: here });
            if piece.iov_len == 0 {
                self.pieces.pop();
            }
            rest -= here;
        }
        self.left -= count;
        tail.left = count;
        true
    }

    /// Cuts off all but the first `count` bytes.
    pub fn truncate(&mut self, count: usize) {
        let mut excess = self.left.saturating_sub(count);
        self.left -= excess;
        while excess > 0 {
            let Some(piece) = self.pieces.last_mut() else { return };
            let here = excess.min(piece.iov_len);
            piece.iov_len -= here;
            excess -= here;
            if piece.iov_len == 0 {
                self.pieces.pop();
            }
        }
    }

    /// Uses up `count` bytes, or all.
    pub fn skip(&mut self, count: usize) {
        self.each(count, |_, _, _| ());
    }

    /// Copies out of guest memory, and uses up what it copied. Returns how much there was.
    pub fn read(&mut self, out: &mut [u8]) -> usize {
        self.each(out.len(), |piece, at, len| {
            // SAFETY: `piece` has `len` bytes inside guest memory; `out[at..at + len]` is ours and
            // cannot overlap it.
            unsafe { ptr::copy_nonoverlapping(piece, out[at..at + len].as_mut_ptr(), len) }
        })
    }

    /// Copies into guest memory, and uses up what it filled. Returns how much fitted.
    pub fn write(&mut self, data: &[u8]) -> usize {
        self.each(data.len(), |piece, at, len| {
            // SAFETY: as in `read`, the other way round.
            unsafe { ptr::copy_nonoverlapping(data[at..at + len].as_ptr(), piece, len) }
        })
    }

    /// Fills what is left with zeroes, and uses it up.
    pub fn zero(&mut self) {
        // SAFETY: `piece` has `len` bytes inside guest memory.
        self.each(self.left, |piece, _, len| unsafe { ptr::write_bytes(piece, 0, len) });
    }

    /// Calls `act(pointer, offset, len)` for the first `count` bytes, piece by piece.
    fn each(&mut self, count: usize, mut act: impl FnMut(*mut u8, usize, usize)) -> usize {
        let count = count.min(self.left);
        let mut done = 0;
        while done < count {
            let piece = &mut self.pieces[self.next];
            let here = piece.iov_len.min(count - done);
            act(piece.iov_base.cast(), done, here);
            // SAFETY: at most one past the end of the piece.
            piece.iov_base = unsafe { piece.iov_base.cast::<u8>().add(here) }.cast();
            piece.iov_len -= here;
            if piece.iov_len == 0 {
                self.next += 1;
            }
            done += here;
        }
        self.left -= count;
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use vm_memory::{Bytes, GuestMemoryMmap};

    fn memory() -> Memory {
        let ranges =
            [(GuestAddress(0), 0x1000), (GuestAddress(0x1000), 0x1000), (GuestAddress(0x8000), 0x1000)];
        Arc::new(GuestMemoryMmap::from_ranges(&ranges).unwrap())
    }

    #[test]
    fn a_range_across_two_regions_is_two_pieces() {
        let memory = memory();
        let mut segments = Segments::new(&memory);
        assert!(segments.push(0xffe, 4));
        assert_eq!(segments.iovecs().len(), 2);
        assert_eq!(segments.write(b"abcdef"), 4);
        let mut back = [0; 4];
        memory.read_slice(&mut back, GuestAddress(0xffe)).unwrap();
        assert_eq!(&back, b"abcd");
    }

    #[test]
    fn what_is_no_memory_is_refused() {
        let memory = memory();
        for (address, len) in [(0x2000, 1), (0x1fff, 2), (0x8fff, 2), (u64::MAX, 2), (0, u32::MAX)] {
            assert!(!Segments::new(&memory).push(address, len), "{address:#x}+{len:#x}");
        }
        assert!(Segments::new(&memory).push(u64::MAX, 0), "no byte of it is used");
    }

    #[test]
    fn cursor_and_tail() {
        let memory = memory();
        memory.write_slice(b"0123456789", GuestAddress(0x100)).unwrap();
        let (mut segments, mut tail) = (Segments::new(&memory), Segments::new(&memory));
        for (address, len) in [(0x100, 4), (0x104, 1), (0x105, 5)] {
            assert!(segments.push(address, len));
        }
        let mut peeked = *b"....";
        segments.peek(3, &mut peeked);
        assert_eq!(&peeked, b"3456");
        segments.peek(8, &mut peeked);
        assert_eq!((&peeked, segments.len()), (b"8956", 10));
        assert!(!segments.split_tail(11, &mut tail));
        assert!(segments.split_tail(6, &mut tail));
        let mut bytes = [0; 10];
        assert_eq!(tail.read(&mut bytes), 6);
        assert_eq!(&bytes[..6], b"456789");
        assert_eq!(segments.read(&mut bytes[..1]), 1);
        segments.truncate(2);
        assert_eq!((segments.len(), segments.read(&mut bytes)), (2, 2));
        assert_eq!(&bytes[..2], b"12");
    }
}
