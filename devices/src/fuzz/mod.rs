//! Entrances for fuzzing what a guest, or a peer, may say: bytes in, no panic out. A fuzzer calls them
//! ([`devices/fuzz`]), and the tests replay its corpus.
//!
//! - [`registers`]  any access to any device: configuration space, BARs, virtio over PCI and MMIO, the
//!   serial port, the IOAPIC; what the driver sets up so is served
//! - [`queues`]     rings, descriptors and requests of a disk, a card and its control queue, as they lie
//! - [`servers`]    a driver that goes on while a disk (both engines), a card (both ways) or a console serves
//! - [`peer`]       a vhost-user backend that answers what it likes
//! - [`switch`]     front ends of the switch, and their rings

mod peer;
mod queues;
mod registers;
mod servers;
mod switch;

use std::fs::{File, OpenOptions, remove_file};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::blk::image::Image;
use crate::net::tap::Tap;
use crate::sys::Memory;
use crate::virtio::backend::QueueResources;
use crate::virtio::fault::Fault;
use crate::virtio::interrupt::Silent;
use crate::virtio::ring::Layout;

pub use peer::peer;
pub use queues::queues;
pub use registers::registers;
pub use servers::servers;
pub use switch::{messages, ring};

/// Memory of a guest, or of a peer. A guest's is two regions that meet in the middle of its buffers.
const MEMORY: u64 = 0x1_0000;
const PAGE: u64 = 0x1000;
/// Sectors of a disk.
const SECTORS: u64 = 64;

/// A file in memory that nobody else knows of.
pub fn memory_file(size: u64) -> File {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = format!("/dev/shm/vmm-peer-{}-{number}", std::process::id());
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
    let file = file.expect("make a file in memory");
    remove_file(&path).expect("remove its name");
    file.set_len(size).expect("size it");
    file
}

/// Memory whose second page begins with `data`: at 0 no ring may be.
fn memory(data: &[u8]) -> Memory {
    let file = Arc::new(memory_file(MEMORY));
    let range =
        |start| (GuestAddress(start), MEMORY as usize / 2, Some(FileOffset::from_arc(file.clone(), start)));
    let memory = GuestMemoryMmap::from_ranges_with_files([range(0), range(MEMORY / 2)]).expect("map memory");
    let len = data.len().min((MEMORY - PAGE) as usize);
    memory.write_slice(&data[..len], GuestAddress(PAGE)).expect("fill it");
    Arc::new(memory)
}

fn disk() -> Image {
    Image::over(memory_file(SECTORS * 512), SECTORS)
}

/// A tap, and the far end of its wire.
fn wire() -> (Tap, UnixDatagram) {
    let (ours, theirs) = UnixDatagram::pair().expect("make a wire");
    ours.set_nonblocking(true).expect("don't wait");
    theirs.set_nonblocking(true).expect("don't wait");
    (Tap::fake(vec![File::from(OwnedFd::from(ours))]), theirs)
}

fn resources(memory: &Memory, layout: Layout, base: u16) -> Option<QueueResources> {
    Some(QueueResources {
        index: 0,
        layout,
        base,
        kick: Arc::new(EventFd::new(EFD_NONBLOCK).ok()?),
        call: Arc::new(Silent),
        memory: memory.clone(),
        counters: Arc::default(),
        fault: Arc::new(Fault::new("blk.0")),
    })
}

/// What the fuzzer has found worth keeping, again.
#[cfg(test)]
mod tests {
    use super::*;

    type Target = (&'static str, fn(&[u8]));

    const TARGETS: [Target; 6] = [
        ("registers", registers),
        ("queues", queues),
        ("servers", servers),
        ("peer", peer),
        ("messages", messages),
        ("ring", ring),
    ];

    #[test]
    fn the_corpus_of_the_fuzzer() {
        for (folder, target) in TARGETS {
            let folder = format!("{}/fuzz/corpus/{folder}", env!("CARGO_MANIFEST_DIR"));
            let files: Vec<_> =
                std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
            assert!(!files.is_empty(), "{folder}");
            files.iter().for_each(|file| target(&std::fs::read(file).unwrap()));
        }
    }
}
