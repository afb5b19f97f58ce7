//! Guest memory: what `--memory`, `--thp`, `--hugepages` and `--prefault` ask for, and what came of it.
//!
//! - [`error`]     what can be missing, and what mends it
//! - [`pool`]      the host's huge pages
//! - [`host`]      the host's memory, and what a control group leaves of it
//! - [`prefault`]  every page before the first instruction
//! - [`evidence`]  which pages came, from smaps

mod cgroup;
mod error;
mod evidence;
mod host;
mod pool;
mod prefault;
mod smaps;

use std::io;

use vm_memory::{GuestAddress, GuestMemoryMmap, GuestRegionMmap};

pub use error::Error;
pub use evidence::MemoryEvidence;
pub use host::available;

use crate::config::{Backing, Memory};
use crate::sys::mapping::{Advice, Mapping};

/// Guest memory, mapped until the process ends.
pub struct GuestRam {
    asked: Memory,
    memory: GuestMemoryMmap,
}

impl GuestRam {
    /// Memory for the regions `(guest address, length)` of a machine, in ascending order; lengths and
    /// addresses are multiples of the page size that a pool of huge pages has.
    pub fn allocate(asked: &Memory, layout: &[(u64, u64)]) -> Result<GuestRam, Error> {
        host::can_hold(asked)?;
        let mut mappings = layout
            .iter()
            .map(|(start, len)| map(asked, *start, *len))
            .collect::<io::Result<Vec<_>>>()
            // What was mapped so far has been given back: the host is as it was before.
            .map_err(|error| host::explain(asked, error))?;
        host::can_touch(asked)?;
        if asked.prefault {
            prefault::prefault(asked, &mut mappings)?;
        }
        let regions = mappings.into_iter().zip(layout).map(|(mapping, (start, _))| {
            let region = mapping.into_region().map_err(|error| Error::Region(error.to_string()))?;
            GuestRegionMmap::new(region, GuestAddress(*start)).ok_or(Error::Layout)
        });
        let regions = regions.collect::<Result<_, _>>()?;
        let memory = GuestMemoryMmap::from_regions(regions).map_err(|_| Error::Layout)?;
        Ok(GuestRam { asked: *asked, memory })
    }

    pub fn mem(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    /// Which pages came. Reads the whole of smaps: for after the guest, and before anything else that
    /// would count as the monitor's own memory.
    pub fn evidence(&self) -> io::Result<MemoryEvidence> {
        evidence::gather(&self.asked, &self.memory)
    }
}

/// One region, with its backing and its advice.
fn map(asked: &Memory, start: u64, len: u64) -> io::Result<Mapping> {
    let len = usize::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
    let (align, pool) = match asked.backing {
        // Small pages need no shape; with it, page size is the one thing that differs from `--thp`.
        Backing::Small | Backing::Thp => (2 << 20, false),
        Backing::Huge2M => (2 << 20, true),
        Backing::Huge1G => (1 << 30, true),
    };
    let make = if asked.shared { Mapping::shared } else { Mapping::new };
    let mapping = make(len, start, align, pool)?;
    // A kernel without transparent huge pages refuses this one: the evidence will say what came.
    match asked.backing {
        Backing::Small => _ = mapping.advise(Advice::NoHugePages),
        Backing::Thp => _ = mapping.advise(Advice::HugePages),
        Backing::Huge2M | Backing::Huge1G => {}
    }
    // A core dump of the monitor is about the monitor; a child (a helper that it starts) has no
    // business with the guest, and copying its page tables would write-protect them.
    mapping.advise(Advice::NotInCoreDumps)?;
    mapping.advise(Advice::NotInChildren)?;
    Ok(mapping)
}

#[cfg(test)]
mod tests;
