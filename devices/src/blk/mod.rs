//! virtio-blk (virtio 1.2 §5.2): a raw file or block device as a disk.
//!
//! - [`image`]    the file: opened, measured, locked
//! - [`shape`]    its size and blocks
//! - [`request`]  what a chain asks for, pure
//! - [`sync`]     one request after the other, by `preadv` and `pwritev` in the worker
//! - [`uring`]    many at once, by io_uring
//! - [`trouble`]  the host's errors, each kind said once

pub mod image;
pub mod request;
pub mod shape;
pub mod sync;
#[cfg(test)]
mod tests;
mod trouble;
pub mod uring;

use std::sync::Arc;
use std::time::Instant;

use virtio_bindings::virtio_blk::*;

use image::{Image, ImageError};
use request::Op;

use crate::virtio::backend::QueueBackend;
use crate::virtio::device::{Device, Kind};
use crate::virtio::front::OperationCounts;
use crate::virtio::rate::{Limiter, Throttle};
use crate::virtio::tally::Shared;
use crate::virtio::userspace::{EachChain, Group, Server, Tuning, Userspace};

/// How a disk does its input and output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Sync,
    Uring,
}

impl Engine {
    /// What suits this host: io_uring, where it has one. A batch is then one system call, and a request
    /// that takes long holds up no other.
    pub fn best() -> Engine {
        if crate::sys::uring::available() { Engine::Uring } else { Engine::Sync }
    }
}

/// Entries of each queue. Linux posts one indirect chain per request.
pub const QUEUE_SIZE: u16 = 256;
/// Data descriptors of a request: the queue's size without header and status.
const SEGMENTS: u32 = QUEUE_SIZE as u32 - 2;
/// Bytes of `struct virtio_blk_config` up to the write-zeroes fields.
const CONFIG: usize = 60;

/// A disk.
pub struct Blk {
    name: String,
    features: u64,
    config: [u8; CONFIG],
    queue_sizes: Vec<u16>,
    backend: Userspace,
    tally: Shared,
}

impl Blk {
    /// A disk over `image` with `queues` queues, each served by a thread of its own.
    pub fn new(
        name: &str,
        image: impl Into<Arc<Image>>,
        engine: Engine,
        queues: u16,
        tuning: Tuning,
    ) -> Result<Blk, ImageError> {
        let image = image.into();
        if engine == Engine::Uring {
            // A host that has none is known now, and not when the driver is ready.
            uring::check(&image)?;
        }
        let (features, config) = (features(&image, queues), config(&image, queues));
        let tally = Shared::new(&Op::NAMES);
        let limiter = Limiter::new(tuning.rate, Instant::now());
        let server = |_| -> Box<dyn Server> {
            match engine {
                Engine::Sync => {
                    let disk = sync::Disk::new(image.clone(), tally.clone());
                    Box::new(EachChain::new(disk, Throttle::new(&limiter)))
                }
                Engine::Uring => {
                    let throttle = Throttle::new(&limiter);
                    Box::new(uring::Disk::new(image.clone(), tally.clone(), tuning.resident, throttle))
                }
            }
        };
        let groups = (0..queues).map(|queue| Group { queues: vec![queue], server: server(queue) }).collect();
        Ok(Blk {
            name: name.into(),
            features,
            config,
            queue_sizes: vec![QUEUE_SIZE; queues.into()],
            backend: Userspace::new(name, u64::MAX, groups, tuning),
            tally,
        })
    }
}

fn features(image: &Image, queues: u16) -> u64 {
    let bits = [
        // Without SEG_MAX Linux sends one page per request. No SIZE_MAX: a segment may be of any size.
        (VIRTIO_BLK_F_SEG_MAX, true),
        (VIRTIO_BLK_F_BLK_SIZE, true),
        (VIRTIO_BLK_F_TOPOLOGY, true),
        (VIRTIO_BLK_F_FLUSH, true),
        (VIRTIO_BLK_F_MQ, queues > 1),
        (VIRTIO_BLK_F_RO, image.read_only()),
        (VIRTIO_BLK_F_DISCARD, !image.read_only() && image.shape().discard.is_some()),
        (VIRTIO_BLK_F_WRITE_ZEROES, !image.read_only()),
    ];
    bits.iter().filter(|(_, on)| *on).fold(0, |features, (bit, _)| features | 1 << bit)
}

/// `struct virtio_blk_config` (§5.2.4).
fn config(image: &Image, queues: u16) -> [u8; CONFIG] {
    let mut config = [0; CONFIG];
    let mut put = |at: usize, bytes: &[u8]| config[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &image.sectors().to_le_bytes());
    put(12, &SEGMENTS.to_le_bytes());
    let shape = image.shape();
    let blocks = |bytes: u32| bytes / shape.block;
    put(20, &shape.block.to_le_bytes());
    // Topology, in logical blocks: 2^n of them in a physical one, how many before the first such, the least
    // that is well written at once, and what is best.
    put(24, &[blocks(shape.physical).ilog2() as u8, blocks(shape.first) as u8]);
    put(26, &u16::try_from(blocks(shape.smallest)).unwrap_or(u16::MAX).to_le_bytes());
    put(28, &blocks(shape.best).to_le_bytes());
    put(34, &queues.to_le_bytes());
    for at in [36, 48] {
        put(at, &request::MOST_SECTORS.to_le_bytes());
        put(at + 4, &(request::MOST_RANGES as u32).to_le_bytes());
    }
    put(44, &(shape.discard.unwrap_or(shape.block) / request::SECTOR as u32).to_le_bytes());
    put(56, &[1]);
    config
}

impl Device for Blk {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> Kind {
        Kind::BLK
    }

    fn features(&self) -> u64 {
        self.features
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn backend(&mut self) -> &mut dyn QueueBackend {
        &mut self.backend
    }

    fn operations(&self) -> Vec<OperationCounts> {
        self.tally.counts()
    }
}
