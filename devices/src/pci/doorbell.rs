//! Ioeventfds as a device sees them: a store that wakes a thread instead of exiting to userspace.

use std::io;
use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

/// Where a doorbell is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Memory(u64),
    Port(u16),
}

/// What a doorbell answers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// A store of any width and value: no instruction is decoded.
    Any,
    /// A store of these 32 bits.
    Value(u32),
}

/// The machine's ioeventfds.
pub trait Ioeventfds: Send + Sync {
    /// From now on a matching store at `place` writes `event`. False where the machine takes every
    /// kick as an exit (`--ioeventfd=off`): then the transport writes the event itself.
    fn attach(&self, place: Place, matching: Match, event: &EventFd) -> io::Result<bool>;

    /// Undoes it.
    fn detach(&self, place: Place, matching: Match, event: &EventFd) -> io::Result<()>;
}

/// Those that a device has attached; they go when it does.
pub struct Doorbells {
    machine: Arc<dyn Ioeventfds>,
    attached: Vec<(Place, Match, Arc<EventFd>)>,
}

impl Doorbells {
    /// None yet.
    pub fn new(machine: Arc<dyn Ioeventfds>) -> Doorbells {
        Doorbells { machine, attached: Vec::new() }
    }

    /// Attaches one. Where the machine can't, kicks arrive as exits, which are counted.
    pub fn attach(&mut self, place: Place, matching: Match, event: &Arc<EventFd>) {
        if let Ok(true) = self.machine.attach(place, matching, event) {
            self.attached.push((place, matching, event.clone()));
        }
    }

    /// Detaches all.
    pub fn clear(&mut self) {
        for (place, matching, event) in self.attached.drain(..) {
            // Only fails where it is not attached, and it was.
            let _ = self.machine.detach(place, matching, &event);
        }
    }
}

impl Drop for Doorbells {
    fn drop(&mut self) {
        self.clear();
    }
}
