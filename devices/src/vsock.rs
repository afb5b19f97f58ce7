//! virtio-vsock (virtio 1.2 §5.10): sockets between guest and host, by addresses of their own. Served by the
//! kernel's vhost-vsock, so that any program of the host reaches the guest by its number.

use crate::vhost;
use crate::virtio::backend::QueueBackend;
use crate::virtio::device::{Device, Kind};
use crate::virtio::userspace::Tuning;

/// VIRTIO_VSOCK_F_SEQPACKET (§5.10.3).
const SEQPACKET: u64 = 1 << 1;
/// Receive, transmit, event (§5.10.2).
const QUEUE_SIZES: [u16; 3] = [256, 256, 16];

/// The device.
pub struct Vsock {
    /// `struct virtio_vsock_config`: the guest's number.
    config: [u8; 8],
    backend: vhost::vsock::Backend,
}

pub(crate) const NAME: &str = "vsock.0";

impl Vsock {
    /// A guest that is `cid`.
    pub fn open(cid: u32, tuning: &Tuning) -> Result<Vsock, vhost::vsock::OpenError> {
        let backend = vhost::vsock::Backend::open(cid, tuning)?;
        Ok(Vsock { config: u64::from(cid).to_le_bytes(), backend })
    }
}

impl Device for Vsock {
    fn name(&self) -> &str {
        NAME
    }

    fn kind(&self) -> Kind {
        Kind::VSOCK
    }

    fn features(&self) -> u64 {
        SEQPACKET
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn backend(&mut self) -> &mut dyn QueueBackend {
        &mut self.backend
    }
}
