//! A disk that another process serves: what it is, its peer knows.

use virtio_bindings::virtio_blk::*;

use super::frontend::{OpenError, VhostUser, Wanted};
use super::session::Address;
use crate::blk::QUEUE_SIZE;
use crate::virtio::backend::QueueBackend;
use crate::virtio::device::{Device, Kind};
use crate::virtio::userspace::Tuning;

/// Features of a disk that need nothing of us. Not CONFIG_WCE: a driver writes nothing to configuration
/// space here.
const FEATURES: u64 = 1 << VIRTIO_BLK_F_SIZE_MAX
    | 1 << VIRTIO_BLK_F_SEG_MAX
    | 1 << VIRTIO_BLK_F_GEOMETRY
    | 1 << VIRTIO_BLK_F_RO
    | 1 << VIRTIO_BLK_F_BLK_SIZE
    | 1 << VIRTIO_BLK_F_FLUSH
    | 1 << VIRTIO_BLK_F_TOPOLOGY
    | 1 << VIRTIO_BLK_F_DISCARD
    | 1 << VIRTIO_BLK_F_WRITE_ZEROES;
/// Bytes of `struct virtio_blk_config` up to the write-zeroes fields, and where in it the number of queues
/// is (virtio 1.2 §5.2.4).
const CONFIG: usize = 60;
const QUEUES: usize = 34;

/// A disk.
pub struct Disk {
    name: String,
    features: u64,
    config: Vec<u8>,
    queue_sizes: Vec<u16>,
    backend: VhostUser,
}

impl Disk {
    /// A disk called `name` with `queues` queues, served by the peer at `address`.
    pub fn open(name: &str, address: Address, queues: u16, tuning: &Tuning) -> Result<Disk, OpenError> {
        let wanted = Wanted { queues, config: CONFIG, on: queues };
        let backend = VhostUser::open(name, address, wanted, tuning)?;
        let many = if queues > 1 { 1 << VIRTIO_BLK_F_MQ } else { 0 };
        let mut disk = Disk {
            name: name.into(),
            features: FEATURES | many,
            config: Vec::new(),
            queue_sizes: vec![QUEUE_SIZE; queues.into()],
            backend,
        };
        disk.refresh();
        Ok(disk)
    }
}

impl Device for Disk {
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

    fn refresh(&mut self) -> bool {
        let Some(mut config) = self.backend.config() else { return false };
        // The peer says how many it could serve; here is how many there are.
        config[QUEUES..QUEUES + 2].copy_from_slice(&(self.queue_sizes.len() as u16).to_le_bytes());
        self.config = config;
        true
    }

    fn backend(&mut self) -> &mut dyn QueueBackend {
        &mut self.backend
    }
}
