//! Memory that a peer shares with us by file descriptors (vhost-user's regions), and the only ways to
//! touch it: parts of rings, and scattered pieces between which bytes are copied.
//!
//! Every address of a peer is translated through its own regions, every access is checked against
//! them, and a file that is cut short later is survived ([`super::sigbus`]).

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use super::copy;
use super::sigbus::Guard;
use crate::vhost_user::message::Region;

/// Why a region can't be mapped.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    #[error("is empty")]
    Empty,
    #[error("wraps around the end of the address space")]
    Wraps,
    #[error("overlaps another")]
    Overlaps,
    #[error("ends at byte {end} of a file of {size}")]
    Beyond { end: u64, size: u64 },
    #[error("is neither tmpfs (memfd) nor hugetlbfs, so that touching it might never end")]
    NoMemory,
    #[error("{0}")]
    Refused(#[from] io::Error),
}

/// What a peer has shared with us so far.
#[derive(Clone, Default)]
pub struct PeerMemory {
    /// By guest address.
    regions: Vec<Shared>,
}

#[derive(Clone)]
struct Shared {
    region: Region,
    mapping: Arc<Mapping>,
}

impl fmt::Debug for PeerMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.regions.iter().map(|shared| shared.region)).finish()
    }
}

impl PeerMemory {
    /// How many regions there are.
    pub fn count(&self) -> usize {
        self.regions.len()
    }

    /// The same and one more.
    pub fn with(&self, region: Region, fd: OwnedFd) -> Result<PeerMemory, MapError> {
        let Region { guest, size, user, offset } = region;
        if size == 0 {
            return Err(MapError::Empty);
        }
        if [guest, user, offset].iter().any(|start| start.checked_add(size).is_none()) {
            return Err(MapError::Wraps);
        }
        let apart = |a: u64, b: u64, len: u64| a + size <= b || b + len <= a;
        let others = self.regions.iter().map(|shared| shared.region);
        if !others.into_iter().all(|o| apart(guest, o.guest, o.size) && apart(user, o.user, o.size)) {
            return Err(MapError::Overlaps);
        }
        let mapping = Arc::new(Mapping::new(&fd.into(), offset + size)?);
        let mut regions = self.regions.clone();
        let at = regions.partition_point(|shared| shared.region.guest < guest);
        regions.insert(at, Shared { region, mapping });
        Ok(PeerMemory { regions })
    }

    /// The same without this one; `None` where it isn't.
    pub fn without(&self, region: Region) -> Option<PeerMemory> {
        let same = |r: Region| (r.guest, r.size, r.user) == (region.guest, region.size, region.user);
        let at = self.regions.iter().position(|shared| same(shared.region))?;
        let mut regions = self.regions.clone();
        regions.remove(at);
        Some(PeerMemory { regions })
    }

    /// True once some of it turned out to be there no more.
    #[inline]
    pub fn gone(&self) -> bool {
        self.regions.iter().any(|shared| shared.mapping.guard.gone())
    }

    /// The guest address behind one of the peer's own, in which it names its rings.
    pub fn guest_address(&self, user: u64) -> Option<u64> {
        let holds = |r: &Region| user.checked_sub(r.user).is_some_and(|offset| offset < r.size);
        let region = self.regions.iter().map(|shared| shared.region).find(holds)?;
        Some(region.guest + (user - region.user))
    }

    /// Where `guest` is, the region's number, and how many bytes follow in it. `near`: a guess.
    #[inline(always)]
    fn find(&self, guest: u64, near: usize) -> Option<(*mut u8, usize, u64)> {
        let within = |index: usize| {
            let shared = self.regions.get(index)?;
            let offset = guest.wrapping_sub(shared.region.guest);
            if offset >= shared.region.size {
                return None;
            }
            // SAFETY: `offset + size` of the region are inside the mapping, as `with` has checked.
            let pointer = unsafe { shared.mapping.base.add((shared.region.offset + offset) as usize) };
            Some((pointer, index, shared.region.size - offset))
        };
        within(near).or_else(|| {
            let after = self.regions.partition_point(|shared| shared.region.guest <= guest);
            within(after.checked_sub(1)?)
        })
    }

    /// Copies out of it; false, with nothing to rely on, where any of it is no memory.
    pub fn read(&self, mut guest: u64, mut out: &mut [u8]) -> bool {
        while !out.is_empty() {
            let Some((pointer, _, rest)) = self.find(guest, 0) else { return false };
            let here = out.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
            // SAFETY: `here` bytes are inside the region; `out` is ours.
            unsafe { ptr::copy_nonoverlapping(pointer, out.as_mut_ptr(), here) };
            out = &mut out[here..];
            guest = guest.wrapping_add(here as u64);
        }
        true
    }
}

/// A file's beginning, mapped and guarded; unguarded before it is unmapped.
#[derive(Debug)]
struct Mapping {
    base: *mut u8,
    guard: Guard,
    _unmap: Unmap,
}

#[derive(Debug)]
struct Unmap {
    base: *mut u8,
    len: usize,
}

// SAFETY: a shared mapping that lives as long as this, touched only by copies and atomics.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(file: &File, len: u64) -> Result<Mapping, MapError> {
        let status = file.metadata()?;
        if !is_memory(file)? {
            return Err(MapError::NoMemory);
        }
        if len > status.size() {
            return Err(MapError::Beyond { end: len, size: status.size() });
        }
        // Whole huge pages, or unmapping fails; from 0, because an offset must be whole ones, too.
        let len = len.checked_next_multiple_of(status.blksize().max(4096)).ok_or(MapError::Wraps)? as usize;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping where the kernel likes; the result is checked.
        let base =
            unsafe { libc::mmap(ptr::null_mut(), len, protection, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error().into());
        }
        let base = base.cast();
        let unmap = Unmap { base, len };
        Ok(Mapping { base, guard: Guard::new(base, len)?, _unmap: unmap })
    }
}

impl Drop for Unmap {
    fn drop(&mut self) {
        // SAFETY: mapped by `Mapping::new`, and nothing points into it any more.
        unsafe { libc::munmap(self.base.cast(), self.len) };
    }
}

/// True for a file whose pages are memory: any other file system might make us wait for a page.
fn is_memory(file: &File) -> io::Result<bool> {
    // SAFETY: plain data, for which all zeroes is a value.
    let mut system: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the record is live; the result is checked.
    if unsafe { libc::fstatfs(file.as_raw_fd(), &mut system) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok([libc::TMPFS_MAGIC as u64, libc::HUGETLBFS_MAGIC as u64].contains(&(system.f_type as u64)))
}

/// A contiguous part of a peer's memory, resolved once: a part of a ring.
pub struct Part {
    base: *mut u8,
    len: usize,
    /// Keeps the mapping alive.
    _memory: Arc<PeerMemory>,
}

// SAFETY: points into a shared mapping that is held beside it; accesses are atomic or volatile.
unsafe impl Send for Part {}

impl Part {
    /// `None` unless all of `guest..guest + len` lies in one region and `guest` is a multiple of `align`.
    pub fn new(memory: &Arc<PeerMemory>, guest: u64, len: usize, align: u64) -> Option<Part> {
        let (base, _, rest) = memory.find(guest, 0)?;
        let whole = rest >= len as u64 && guest.is_multiple_of(align) && (base as u64).is_multiple_of(align);
        whole.then(|| Part { base, len, _memory: memory.clone() })
    }

    #[inline]
    fn at<T>(&self, offset: usize) -> *mut T {
        let size = size_of::<T>();
        assert!(offset <= self.len && size <= self.len - offset && offset.is_multiple_of(align_of::<T>()));
        // SAFETY: inside the part, by the line above.
        unsafe { self.base.add(offset).cast() }
    }

    #[inline]
    fn word(&self, offset: usize) -> &AtomicU16 {
        // SAFETY: inside the mapping for as long as `self`, and aligned: parts are at least 2-aligned.
        unsafe { AtomicU16::from_ptr(self.at(offset)) }
    }

    /// Loads the 16-bit word at `offset`, an even number.
    #[inline]
    pub fn load(&self, offset: usize, order: Ordering) -> u16 {
        u16::from_le(self.word(offset).load(order))
    }

    /// Stores the 16-bit word at `offset`, an even number.
    #[inline]
    pub fn store(&self, offset: usize, value: u16, order: Ordering) {
        self.word(offset).store(value.to_le(), order);
    }

    /// Reads a descriptor of a part that is 16-aligned, once.
    #[inline]
    pub fn descriptor(&self, index: usize) -> u128 {
        let pointer = self.at::<[u64; 2]>(16 * index);
        // SAFETY: inside the part and aligned; volatile, so that it is read once. A value torn by the
        // peer's own write is checked like any other.
        let [low, high] = unsafe { pointer.read_volatile() };
        u128::from(u64::from_le(low)) | u128::from(u64::from_le(high)) << 64
    }

    /// Writes a 32-bit word at a multiple of 4.
    #[inline]
    pub fn put_one(&self, offset: usize, word: u32) {
        // SAFETY: inside the part and aligned.
        unsafe { self.at::<u32>(offset).write_volatile(word.to_le()) }
    }

    /// Writes two 32-bit words at a multiple of 4.
    #[inline]
    pub fn put(&self, offset: usize, words: [u32; 2]) {
        // SAFETY: inside the part and aligned.
        unsafe { self.at::<[u32; 2]>(offset).write_volatile(words.map(u32::to_le)) }
    }
}

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

    /// Asks for the first two cache lines of a piece, which will be read soon.
    #[inline]
    pub fn prefetch(&self, piece: u32) {
        if let Some(piece) = self.list.get(piece as usize) {
            copy::prefetch(piece.base);
            copy::prefetch(piece.base.wrapping_add(64));
        }
    }

    /// The same, to be written soon.
    #[inline]
    pub fn prefetch_write(&self, piece: u32) {
        if let Some(piece) = self.list.get(piece as usize) {
            copy::prefetch_write(piece.base);
            copy::prefetch_write(piece.base.wrapping_add(64));
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
    #[inline]
    pub fn put_header<const H: usize>(&self, at: &mut Cursor, (first, rest): (u64, u32)) {
        match self.list.get(at.piece as usize) {
            // More than `H`, so that the cursor stays in the piece.
            Some(piece) if (piece.len - at.offset) as usize > H => {
                let to = piece.base.wrapping_add(at.offset as usize);
                // SAFETY: `H` bytes inside the piece, of no alignment.
                unsafe {
                    to.cast::<u64>().write_unaligned(first.to_le());
                    match H {
                        12 => to.add(8).cast::<u32>().write_unaligned(rest.to_le()),
                        _ => to.add(8).cast::<u16>().write_unaligned((rest as u16).to_le()),
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
