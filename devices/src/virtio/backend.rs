//! The seam: who serves a queue is not what the queue means.
//!
//! A transport moves [`QueueResources`] into a [`QueueBackend`] when the driver writes DRIVER_OK and
//! takes them back on reset; it can't tell a worker thread, the kernel's vhost and another process
//! apart.

use std::io;
use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

use super::counters::{Counters, ThreadCounts};
use super::fault::Fault;
use super::interrupt::Line;
use super::ring::Layout;
use crate::sys::Memory;

/// Everything that it takes to serve one queue.
pub struct QueueResources {
    pub index: u16,
    pub layout: Layout,
    /// Where it goes on in the available ring: 0 after a reset; what [`QueueBackend::stop`] gives back.
    pub base: u16,
    /// The driver's notification. Never read while a worker serves: it counts kicks.
    pub kick: Arc<EventFd>,
    pub call: Line,
    pub memory: Memory,
    pub counters: Arc<Counters>,
    pub fault: Arc<Fault>,
}

/// Who serves: one word in the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataPath {
    Userspace,
    VhostKernel,
    VhostUser,
}

impl DataPath {
    /// As the report writes it.
    pub fn label(self) -> &'static str {
        match self {
            DataPath::Userspace => "userspace",
            DataPath::VhostKernel => "vhost-kernel",
            DataPath::VhostUser => "vhost-user",
        }
    }
}

/// A backend could not start.
#[derive(Debug, thiserror::Error)]
#[error("{deed}: {source}")]
pub struct BackendError {
    /// What was being done to what: "start worker blk.0".
    pub deed: String,
    pub source: io::Error,
}

/// A worker in this process, the kernel's vhost, or another process.
pub trait QueueBackend: Send {
    /// For the report.
    fn data_path(&self) -> DataPath;

    /// Whether a thread of this process serves that queue.
    fn serves_here(&self, queue: u16) -> bool {
        let _ = queue;
        self.data_path() == DataPath::Userspace
    }

    /// What it can do, over all feature bits; the device offers its own features masked with this.
    fn features(&self) -> u64;

    /// Serves `queues` (those that the driver enabled, by rising index) under the features `acked`.
    fn start(&mut self, queues: Vec<QueueResources>, acked: u64) -> Result<(), BackendError>;

    /// The threads of this host that serve, each once; those of other processes are not ours to count.
    fn threads(&self) -> Vec<ThreadCounts> {
        Vec::new()
    }

    /// Stops; when it returns, nothing touches guest memory any more, and a start with what it gives
    /// back goes on where it was. Without a start: nothing.
    fn stop(&mut self) -> Vec<QueueResources>;

    /// Begins to stop, for good, and waits for no other process longer than a moment: true if it has stopped,
    /// else [`QueueBackend::stopped`] tells when it has.
    fn stop_soon(&mut self) -> bool {
        self.stop();
        true
    }

    /// Whether what [`QueueBackend::stop_soon`] began has come to its end.
    fn stopped(&mut self) -> bool {
        true
    }
}
