//! How a serving thread reaches the guest.

use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

/// An interrupt of a queue or of the configuration.
pub trait Interrupt: Send + Sync {
    /// Raises it.
    fn signal(&self);

    /// Whether anybody is told: `false` for a queue that the driver polls.
    fn reaches(&self) -> bool {
        true
    }

    /// The event fd whose write raises it, for a kernel or a process that serves the queue. `None`
    /// where there is none (no irqfd): such a backend can't be used.
    fn event(&self) -> Option<&EventFd>;
}

/// An interrupt as it is shared.
pub type Line = Arc<dyn Interrupt>;

/// No interrupt: the driver polls (MSI-X vector 0xffff, virtio 1.2 §4.1.5.1.2).
pub struct Silent;

impl Interrupt for Silent {
    fn signal(&self) {}
    fn reaches(&self) -> bool {
        false
    }
    fn event(&self) -> Option<&EventFd> {
        None
    }
}
