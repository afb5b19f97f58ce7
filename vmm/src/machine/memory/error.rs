//! What can be missing for guest memory, and what mends it.

use std::io;
use std::path::PathBuf;

use crate::config::memory::Size;
use crate::status::{Fatal, Status};

/// Why there is no guest memory.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("memory {}: this host has {} of RAM and swap in all", Size(*asked), mib(*has))]
    Host { asked: u64, has: u64 },
    #[error("memory {}: {what} leaves {}; {mend}", Size(*asked), mib(*left))]
    Limit { asked: u64, what: String, left: u64, mend: String },
    #[error("prefault {}: {} of this host's memory is available; less memory, or no --prefault", Size(*asked), mib(*available))]
    Available { asked: u64, available: u64 },
    #[error("hugepages={size}: {needed} pages needed, {free} free, {missing} missing: echo {total} > {}", file.display())]
    Pool { size: Size, needed: u64, free: u64, missing: u64, total: u64, file: PathBuf },
    #[error("hugepages={0}: neither this CPU nor this kernel has pages of that size for a pool")]
    NoPool(Size),
    #[error("memory {}: map it: {error}", Size(*asked))]
    Map { asked: u64, error: io::Error },
    #[error("prefault {}: populate it: {error}", Size(*asked))]
    Populate { asked: u64, error: io::Error },
    #[error("guest memory: {0}")]
    Region(String),
    #[error("guest memory: regions overlap or leave the address space")]
    Layout,
}

impl Fatal for Error {
    fn status(&self) -> Status {
        Status::Resource
    }
}

/// Whole mebibytes, rounded down.
fn mib(bytes: u64) -> String {
    format!("{}M", bytes >> 20)
}
