//! The buffers of a peer's descriptors, and the copies between two peers.

use std::ptr;
use std::sync::Arc;

use super::PeerMemory;
use crate::sys::copy::{self, LINE};

/// A place in a list of pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    pub piece: u32,
    pub offset: u32,
}

#[derive(Clone, Copy)]
struct Piece {
    base: *mut u8,
    len: u32,
}

/// Scattered pieces of one peer's memory, in the order in which its descriptors name them.
#[derive(Default)]
pub struct Pieces {
    list: Vec<Piece>,
    /// The region of the last: the next is likely to lie there, too.
    near: usize,
    /// Every piece points into it.
    memory: Arc<PeerMemory>,
}

// SAFETY: the pointers are into `memory`, which is held, shared and only touched by raw copies.
unsafe impl Send for Pieces {}

impl Pieces {
    /// Forgets everything; what follows is in `memory`.
    pub fn reset(&mut self, memory: &Arc<PeerMemory>) {
        self.list.clear();
        if !Arc::ptr_eq(&self.memory, memory) {
            self.memory = memory.clone();
            self.near = 0;
        }
    }

    /// The memory of all pieces.
    pub fn memory(&self) -> &PeerMemory {
        &self.memory
    }

    /// How many pieces there are.
    #[inline]
    pub fn count(&self) -> u32 {
        self.list.len() as u32
    }

    /// Appends `guest..guest + len`; a range across regions becomes several pieces. False, with nothing
    /// to rely on, where any of it is no memory.
    #[inline]
    pub fn push(&mut self, guest: u64, len: u32) -> bool {
        match self.memory.find(guest, self.near) {
            Some((base, near, rest)) if u64::from(len) <= rest && len > 0 => {
                self.near = near;
                self.list.push(Piece { base, len });
                true
            }
            _ => self.push_across(guest, len),
        }
    }

    #[cold]
    fn push_across(&mut self, mut guest: u64, mut len: u32) -> bool {
        while len > 0 {
            let Some((base, near, rest)) = self.memory.find(guest, self.near) else { return false };
            self.near = near;
            let here = u64::from(len).min(rest) as u32;
            self.list.push(Piece { base, len: here });
            len -= here;
            guest = guest.wrapping_add(here.into());
        }
        true
    }

    /// Asks for a piece's header of so many bytes and for what follows it, which will be read soon.
    #[inline]
    pub fn prefetch(&self, piece: u32, header: usize) {
        if let Some(piece) = self.list.get(piece as usize) {
            copy::prefetch(piece.base);
            copy::prefetch(piece.base.wrapping_add(header));
        }
    }

    /// Makes the cache lines of the first `len` bytes behind a piece's header ours, by a store into each:
    /// they are to be written soon, and what they hold is of no use to anybody.
    ///
    /// A line that was written here and looked at by its peer since is in both caches. A store then waits
    /// for the peer's to give it up, all stores behind it wait with it, and loads from other buffers wait
    /// for stores that may be to the same place. So all lines of a batch are asked for at once. PREFETCHW
    /// doesn't do it: it finds the line there.
    #[inline]
    pub fn claim(&self, piece: u32, header: usize, len: usize) {
        if let Some(piece) = self.list.get(piece as usize) {
            let end = (piece.len as usize).min(header + len);
            let mut at = header;
            while at < end {
                let here = piece.base.wrapping_add(at);
                // SAFETY: before `end`, so inside the piece.
                unsafe { here.write_volatile(0) };
                at += LINE - here.addr() % LINE;
            }
        }
    }

    /// Calls `act(pointer, done, len)` for the next `count` bytes, and moves the cursor behind them.
    /// Returns how many there were.
    #[inline(always)]
    fn each(&self, at: &mut Cursor, count: usize, mut act: impl FnMut(*mut u8, usize, usize)) -> usize {
        let mut done = 0;
        while done < count {
            let Some(piece) = self.list.get(at.piece as usize) else { break };
            let here = ((piece.len - at.offset) as usize).min(count - done);
            // A cursor's offset is below its piece's length: `each` alone moves it.
            act(piece.base.wrapping_add(at.offset as usize), done, here);
            done += here;
            at.offset += here as u32;
            if at.offset == piece.len {
                *at = Cursor { piece: at.piece + 1, offset: 0 };
            }
        }
        done
    }

    /// Copies out.
    #[inline]
    pub fn read(&self, at: &mut Cursor, out: &mut [u8]) -> usize {
        let whole = out.len();
        self.each(at, whole, |piece, done, len| {
            // SAFETY: `len` bytes inside a piece; `out[done..done + len]` is ours.
            unsafe { ptr::copy_nonoverlapping(piece, out[done..done + len].as_mut_ptr(), len) }
        })
    }

    /// Copies in.
    #[inline]
    pub fn write(&self, at: &mut Cursor, data: &[u8]) -> usize {
        self.each(at, data.len(), |piece, done, len| {
            // SAFETY: as in `read`, the other way round.
            unsafe { ptr::copy_nonoverlapping(data[done..done + len].as_ptr(), piece, len) }
        })
    }

    /// Copies `count` bytes from here to there, and moves both cursors. Returns how many it could.
    #[inline]
    pub fn copy_to(&self, at: &mut Cursor, to: &Pieces, to_at: &mut Cursor, count: usize) -> usize {
        self.each(at, count, |from, _, len| {
            let mut from = from;
            to.each(to_at, len, |into, _, here| {
                // SAFETY: `here` bytes inside a piece of either list. Where a peer lets them overlap,
                // its own bytes are muddled.
                unsafe { copy::bytes(from, into, here) };
                from = from.wrapping_add(here);
            });
        })
    }

    /// The little-endian words at `0`, `8`, `H` and `H + 6` from a cursor on: a virtio header of `H`
    /// bytes, and the two addresses behind it. What lies beyond `H + 14` bytes may read as zero; `None`
    /// if there are fewer.
    ///
    /// Words, and none of them by way of an array: a load of bytes that were stored in several parts
    /// waits until those stores have reached the cache, behind all that miss it.
    #[inline]
    pub fn start<const H: usize>(&self, at: Cursor) -> Option<(u64, u32, u64, u64)> {
        match self.list.get(at.piece as usize) {
            Some(piece) if (piece.len - at.offset) as usize >= H + 14 => {
                let from = piece.base.wrapping_add(at.offset as usize);
                let word = |offset: usize| {
                    // SAFETY: eight bytes, at `H + 6` at most, inside the piece; of no alignment.
                    u64::from_le(unsafe { from.add(offset).cast::<u64>().read_unaligned() })
                };
                Some((word(0), word(8) as u32, word(H), word(H + 6)))
            }
            _ => self.start_scattered::<H>(at),
        }
    }

    #[cold]
    fn start_scattered<const H: usize>(&self, at: Cursor) -> Option<(u64, u32, u64, u64)> {
        let mut bytes = [0; 32];
        let got = self.read(&mut { at }, &mut bytes[..H + 14]);
        let word = |offset: usize| {
            let part = bytes[offset..].first_chunk().copied().unwrap_or_default();
            u64::from_le_bytes(part)
        };
        (got == H + 14).then(|| (word(0), word(8) as u32, word(H), word(H + 6)))
    }

    /// Writes the first `H` bytes of these words, 10 or 12, and moves the cursor.
    ///
    /// Nearly every header says what the one before it in the same buffer said. Where it has a cache line
    /// for itself (before the buffer of a DPDK front end, which passes buffers on and touches no frame), it
    /// is written only if it differs: a line that nobody writes stays with both ends, and one that is
    /// written costs either of them more than the frame.
    #[inline]
    pub fn put_header<const H: usize>(&self, at: &mut Cursor, (first, rest): (u64, u32)) {
        match self.list.get(at.piece as usize) {
            // More than `H`, so that the cursor stays in the piece.
            Some(piece) if (piece.len - at.offset) as usize > H => {
                let to = piece.base.wrapping_add(at.offset as usize);
                let (head, tail) = (to.cast::<u64>(), to.wrapping_add(8));
                let (first, rest) = (first.to_le(), rest.to_le());
                // SAFETY: `H` bytes inside the piece, of no alignment.
                unsafe {
                    let there = copy::apart(to, H)
                        && head.read_unaligned() == first
                        && match H {
                            12 => tail.cast::<u32>().read_unaligned() == rest,
                            _ => tail.cast::<u16>().read_unaligned() == rest as u16,
                        };
                    if !there {
                        head.write_unaligned(first);
                        match H {
                            12 => tail.cast::<u32>().write_unaligned(rest),
                            _ => tail.cast::<u16>().write_unaligned(rest as u16),
                        }
                    }
                }
                at.offset += H as u32;
            }
            _ => {
                let mut bytes = [0; 12];
                bytes[..8].copy_from_slice(&first.to_le_bytes());
                bytes[8..].copy_from_slice(&rest.to_le_bytes());
                self.write(at, &bytes[..H]);
            }
        }
    }

    /// The ones' complement sum of `count` bytes as 16-bit words, big-endian (RFC 1071).
    pub fn sum(&self, at: Cursor, count: usize) -> u16 {
        let mut total = 0_u64;
        let mut buffer = [0; 256];
        let (mut at, mut rest) = (at, count);
        while rest > 0 {
            let here = rest.min(buffer.len());
            let got = self.read(&mut at, &mut buffer[..here]);
            buffer[got..].fill(0);
            let words = buffer[..got.next_multiple_of(2)].as_chunks::<2>().0;
            total += words.iter().map(|&word| u64::from(u16::from_be_bytes(word))).sum::<u64>();
            if got < here {
                break;
            }
            rest -= here;
        }
        while total > 0xffff {
            total = (total & 0xffff) + (total >> 16);
        }
        total as u16
    }

    /// Moves the cursor over `count` bytes. Returns over how many it could.
    pub fn skip(&self, at: &mut Cursor, count: usize) -> usize {
        self.each(at, count, |_, _, _| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::memory_file;
    use crate::vhost_user::message::Region;

    const PAGE: u64 = 4096;

    /// A piece of two pages, its header of `H` bytes the last in the first.
    fn across<const H: usize>() -> Pieces {
        let region = Region { guest: 0, size: 2 * PAGE, user: 0, offset: 0 };
        let memory = PeerMemory::default().with(region, memory_file(2 * PAGE).into()).unwrap();
        let mut pieces = Pieces::default();
        pieces.reset(&Arc::new(memory));
        assert!(pieces.push(PAGE - H as u64, 100));
        pieces
    }

    fn header(pieces: &Pieces) -> [u8; 12] {
        let mut bytes = [0; 12];
        assert_eq!(pieces.read(&mut Cursor::default(), &mut bytes), 12);
        bytes
    }

    fn left_alone_or_changed<const H: usize>() {
        let pieces = across::<H>();
        let put = |first, rest| pieces.put_header::<H>(&mut Cursor::default(), (first, rest));
        let protect = |how| {
            let page = pieces.list[0].base.wrapping_sub(PAGE as usize - H);
            // SAFETY: a whole page of a mapping that `pieces` holds.
            assert_eq!(unsafe { libc::mprotect(page.cast(), PAGE as usize, how) }, 0);
        };
        put(0x0807_0605_0403_0201, 0x0c0b_0a09);
        // To write it now would be SIGSEGV.
        protect(libc::PROT_READ);
        put(0x0807_0605_0403_0201, 0x0c0b_0a09);
        protect(libc::PROT_READ | libc::PROT_WRITE);
        assert_eq!(header(&pieces)[..H], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12][..H]);
        put(0x0807_0605_0403_0201, 0x0c0b_0a99);
        assert_eq!(header(&pieces)[8..H], [0x99, 10, 11, 12][..H - 8]);
        put(0x0907_0605_0403_0201, 0x0c0b_0a99);
        assert_eq!(header(&pieces)[7..9], [9, 0x99]);
    }

    #[test]
    fn lines_are_claimed_by_their_first_bytes_within_a_piece() {
        let pieces = across::<12>();
        let mut all = Cursor::default();
        pieces.write(&mut all, &[1; 100]);
        pieces.claim(0, 12, 64 + 1);
        pieces.claim(1, 12, 64);
        let mut bytes = [0; 100];
        assert_eq!(pieces.read(&mut Cursor::default(), &mut bytes), 100);
        assert_eq!((0..100).filter(|&at| bytes[at] == 0).collect::<Vec<_>>(), [12, 12 + 64]);
        // Ends before the header does, or with it; in mid-line.
        pieces.write(&mut Cursor::default(), &[1; 100]);
        pieces.claim(0, 100, 64);
        pieces.claim(0, 101, 64);
        pieces.claim(0, 90, 1000);
        pieces.read(&mut Cursor::default(), &mut bytes);
        assert_eq!((0..100).filter(|&at| bytes[at] == 0).collect::<Vec<_>>(), [90]);
    }

    #[test]
    fn a_header_in_a_line_of_its_own_is_written_where_it_differs() {
        left_alone_or_changed::<12>();
        left_alone_or_changed::<10>();
    }
}
