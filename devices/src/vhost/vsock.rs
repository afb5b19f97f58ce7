//! virtio-vsock by `/dev/vhost-vsock`. The event queue is nobody's: it tells of a guest that has moved to
//! another host, and none does.

use std::io;

use super::worker::{self, Worker};
use crate::sys::vhost::Vhost;
use crate::virtio::backend::{BackendError, DataPath, QueueBackend, QueueResources};
use crate::virtio::counters::ThreadCounts;
use crate::virtio::userspace::Tuning;
use crate::vsock::NAME;

/// Receive and transmit.
const QUEUES: u16 = 2;

/// Why there can be no vsock.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("open /dev/vhost-vsock: {0}; it needs the module vhost_vsock: modprobe vhost_vsock")]
    Open(io::Error),
    #[error("take the number {cid} for the guest's sockets: another machine of this host has it")]
    Taken { cid: u32 },
    #[error("take the number {cid} for the guest's sockets: {source}")]
    Number { cid: u32, source: io::Error },
}

impl OpenError {
    /// Whether this user lacks a permission.
    pub fn denied(&self) -> bool {
        matches!(self, OpenError::Open(error) if error.kind() == io::ErrorKind::PermissionDenied)
    }
}

/// The backend.
pub struct Backend {
    vhost: Vhost,
    /// The kernel's thread, where it was found.
    worker: Option<Worker>,
    features: u64,
    running: Vec<QueueResources>,
}

impl Backend {
    /// Opens vhost-vsock for the guest that is `cid`.
    pub fn open(cid: u32, tuning: &Tuning) -> Result<Backend, OpenError> {
        let made = worker::of(|| Vhost::open("/dev/vhost-vsock"));
        let (vhost, worker) = made.map_err(OpenError::Open)?;
        if let Some(worker) = &worker {
            (tuning.entered)(NAME, worker.id());
        }
        let features = vhost.features().map_err(OpenError::Open)?;
        vhost.set_guest_cid(cid.into()).map_err(|source| match source.raw_os_error() {
            Some(libc::EADDRINUSE) => OpenError::Taken { cid },
            _ => OpenError::Number { cid, source },
        })?;
        Ok(Backend { vhost, worker, features, running: Vec::new() })
    }

    fn run(&self, acked: u64) -> io::Result<()> {
        let Some(first) = self.running.first() else { return Ok(()) };
        self.vhost.set_features(acked & self.features)?;
        self.vhost.set_memory(&first.memory)?;
        for queue in &self.running {
            let index = queue.index.into();
            self.vhost.set_ring(index, queue)?;
        }
        self.vhost.set_vsock_running(true)
    }
}

impl QueueBackend for Backend {
    fn data_path(&self) -> DataPath {
        DataPath::VhostKernel
    }

    fn features(&self) -> u64 {
        self.features
    }

    fn start(&mut self, queues: Vec<QueueResources>, acked: u64) -> Result<(), BackendError> {
        self.running = queues.into_iter().filter(|queue| queue.index < QUEUES).collect();
        self.run(acked)
            .map_err(|source| BackendError { deed: format!("start vhost-vsock for {NAME}"), source })
    }

    fn stop(&mut self) -> Vec<QueueResources> {
        if !self.running.is_empty() {
            // It fails only where it has never had an owner.
            let _ = self.vhost.set_vsock_running(false);
        }
        std::mem::take(&mut self.running)
    }

    fn threads(&self) -> Vec<ThreadCounts> {
        self.worker.iter().map(Worker::counts).collect()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop();
    }
}
