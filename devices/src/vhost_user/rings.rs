//! The rings of a driver that is ready, as a peer is told of them: the first one, and each that comes
//! after it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

use vm_memory::{Address, GuestMemoryBackend, GuestMemoryRegion};

use super::message::{Addresses, Code, F_PROTOCOL, Inflight, Region, Request, RingFd, RingState, protocol};
use super::session::{Session, SessionError};
use crate::sys::window::{Window, host_address};
use crate::sys::{Memory, socket};
use crate::virtio::backend::QueueResources;
use crate::virtio::ring::Layout;

/// Rings, and what of them outlives a peer.
pub struct Rings {
    queues: Vec<QueueResources>,
    acked: u64,
    place: Place,
    /// Rings with a smaller index are on.
    on: u16,
    /// Where a peer notes what it has taken and not given back: its successor reads it.
    inflight: Option<(Inflight, OwnedFd)>,
}

/// Who has the rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Nobody: each goes on at its base.
    Here,
    /// A peer was told of them, of some at least.
    There,
    /// A peer had them when it was lost: the used rings say where they go on.
    Lost,
}

impl Rings {
    /// Rings that the driver has set up; none outside guest memory.
    pub fn new(queues: Vec<QueueResources>, acked: u64) -> Result<Rings, SessionError> {
        for queue in &queues {
            addresses(queue)?;
            shared(&queue.memory)?;
        }
        Ok(Rings { queues, acked, place: Place::Here, on: 0, inflight: None })
    }

    /// Whether a peer serves them, or may do so.
    pub fn are_there(&self) -> bool {
        self.place == Place::There
    }

    /// How many are on.
    pub fn on(&self) -> u16 {
        self.on
    }

    /// Hands the rings to a peer, the first `on` of them switched on: to the first peer where they begin, to a
    /// later one where the used ring says that its predecessor has stopped.
    pub fn give(&mut self, peer: &Session, on: u16) -> Result<(), SessionError> {
        let again = self.place == Place::Lost;
        (self.place, self.on) = (Place::There, on);
        let Some(first) = self.queues.first() else { return Ok(()) };
        let protocol = if peer.switches_rings() { F_PROTOCOL } else { 0 };
        peer.tell(&Request::SetFeatures(self.acked & peer.features() | protocol), &[])?;
        let (regions, files) = shared(&first.memory)?;
        peer.tell(&Request::SetMemTable(regions), &files)?;
        if peer.agreed(protocol::INFLIGHT_SHMFD) {
            self.give_inflight(peer)?;
        }
        for queue in &self.queues {
            let base = if again { last_used(&queue.memory, &queue.layout) } else { queue.base };
            give_ring(peer, queue, base)?;
        }
        self.switch(peer, self.on)?;
        if again {
            // A kick that its predecessor took, or an interrupt that it owed, would be lost.
            for queue in &self.queues {
                let _ = queue.kick.write(1);
                queue.call.signal();
            }
        }
        Ok(())
    }

    fn give_inflight(&mut self, peer: &Session) -> Result<(), SessionError> {
        if self.inflight.is_none() {
            let largest = self.queues.iter().map(|queue| queue.layout.size).max().unwrap_or(0);
            let queues = self.queues.last().map_or(0, |queue| queue.index + 1);
            let asked = Inflight { size: 0, offset: 0, queues, queue_size: largest };
            let mut answer = peer.ask(&Request::GetInflightFd(asked))?;
            let wrong = SessionError::Answer(Code::GetInflightFd);
            match (Inflight::decode(&answer.payload), answer.fds.pop()) {
                (Some(buffer), Some(fd)) if buffer.size > 0 && answer.fds.is_empty() => {
                    self.inflight = Some((buffer, fd));
                }
                _ => return Err(wrong),
            }
        }
        match &self.inflight {
            Some((buffer, fd)) => peer.tell(&Request::SetInflightFd(*buffer), &[fd.as_fd()]),
            None => Ok(()),
        }
    }

    /// Leaves the first `on` rings on, and the others off.
    pub fn switch(&mut self, peer: &Session, on: u16) -> Result<(), SessionError> {
        self.on = on;
        if !peer.switches_rings() {
            return Ok(());
        }
        self.queues.iter().try_for_each(|queue| {
            let value = u32::from(queue.index < on);
            peer.tell(&Request::SetVringEnable(RingState { index: queue.index.into(), value }), &[])
        })
    }

    /// Takes the rings back, and with them what the peer knows of each: where it goes on. What it
    /// has taken it gives back first.
    pub fn take(&mut self, peer: &Session) -> Result<(), SessionError> {
        self.switch(peer, 0)?;
        for queue in &mut self.queues {
            let asked = RingState { index: queue.index.into(), value: 0 };
            let answer = peer.ask(&Request::GetVringBase(asked))?;
            queue.base = RingState::decode(&answer.payload)
                .filter(|state| state.index == asked.index)
                .and_then(|state| u16::try_from(state.value).ok())
                .ok_or(SessionError::Answer(Code::GetVringBase))?;
        }
        self.place = Place::Here;
        Ok(())
    }

    /// The peer that has them, if one has, is no longer ours.
    pub fn lose(&mut self) {
        if self.are_there() {
            self.place = Place::Lost;
        }
    }

    /// What they were made of.
    pub fn into_queues(mut self) -> Vec<QueueResources> {
        if self.place != Place::Here {
            for queue in &mut self.queues {
                queue.base = last_used(&queue.memory, &queue.layout);
            }
        }
        self.queues
    }

    /// Tells the driver that the configuration space has changed.
    pub fn config_changed(&self) {
        if let Some(queue) = self.queues.first() {
            queue.fault.config_changed();
        }
    }
}

fn give_ring(peer: &Session, queue: &QueueResources, base: u16) -> Result<(), SessionError> {
    let index = u32::from(queue.index);
    let value = |value: u16| RingState { index, value: value.into() };
    let fd = |present| RingFd { index: queue.index as u8, present };
    peer.tell(&Request::SetVringNum(value(queue.layout.size)), &[])?;
    peer.tell(&Request::SetVringBase(value(base)), &[])?;
    peer.tell(&Request::SetVringAddr(addresses(queue)?), &[])?;
    let call: Vec<BorrowedFd> = queue.call.event().map(socket::event).into_iter().collect();
    peer.tell(&Request::SetVringCall(fd(!call.is_empty())), &call)?;
    peer.tell(&Request::SetVringKick(fd(true)), &[socket::event(&queue.kick)])
}

/// The regions of guest memory, and the files that they are in.
fn shared(memory: &Memory) -> Result<(Vec<Region>, Vec<BorrowedFd<'_>>), SessionError> {
    let region = |region: &'_ vm_memory::GuestRegionMmap| {
        let host = region.get_host_address(vm_memory::MemoryRegionAddress(0)).ok()?;
        let offset = region.file_offset()?.start();
        Some(Region { guest: region.start_addr().raw_value(), size: region.len(), user: host as u64, offset })
    };
    let regions = memory.iter().map(region).collect::<Option<_>>().ok_or(SessionError::Private)?;
    let files = memory.iter().filter_map(|region| Some(region.file_offset()?.file().as_fd())).collect();
    Ok((regions, files))
}

fn addresses(queue: &QueueResources) -> Result<Addresses, SessionError> {
    let Layout { size, descriptors, available, used } = queue.layout;
    let host = |address, len| {
        let host = host_address(&queue.memory, address, len).map(|host| host as u64);
        host.ok_or(SessionError::Place)
    };
    let size = u64::from(size);
    Ok(Addresses {
        index: queue.index.into(),
        flags: 0,
        descriptors: host(descriptors, 16 * size)?,
        used: host(used, 6 + 8 * size)?,
        available: host(available, 6 + 2 * size)?,
        log: 0,
    })
}

/// The index of the used ring, as its last server has left it.
fn last_used(memory: &Memory, layout: &Layout) -> u16 {
    Window::new(memory, layout.used, 4, 2).map_or(0, |used| used.load(2, Ordering::Acquire))
}
