//! Memory that a peer shares with us by file descriptors (vhost-user's regions), and the only ways to
//! touch it: parts of rings ([`Part`]), and scattered pieces between which bytes are copied ([`Pieces`]).
//!
//! Every address of a peer is translated through its own regions, every access is checked against
//! them, and a file that is cut short later is survived ([`super::sigbus`]).

mod part;
mod pieces;

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::ptr;
use std::sync::Arc;

use super::sigbus::Guard;
use crate::vhost_user::message::Region;

pub use part::Part;
pub use pieces::{Cursor, Pieces};

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
