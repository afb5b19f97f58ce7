//! The backend's end of a connection: a state machine that a front end drives, and that hands rings to
//! whoever serves them.
//!
//! ```text
//!  SET_OWNER, features, memory table ── once, before the rings
//!
//!             NUM, ADDR, BASE, CALL        KICK, and enabled
//!   nothing ────────────────────► set up ───────────────────► runs
//!                                   ▲                           │
//!                                   └── GET_VRING_BASE,         │
//!                                       disabled, reset ◄───────┘
//! ```
//!
//! Whatever changes a ring that runs (memory, addresses, fds) stops it where it is and starts it there
//! again. A ring that can't be started is an error of the message that would have started it.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

use super::message::{Code, F_PROTOCOL, Request, RingFd, RingState, protocol};
use crate::sys::bell::Bell;
use crate::sys::event;
use crate::sys::peer::{MapError, PeerMemory};
use crate::virtio::ring::{Layout, RingError};

/// Memory regions of a peer at most, one by one; a table has fewer.
pub const MOST_SLOTS: usize = 64;
/// What this end speaks.
const SPOKEN: u64 = protocol::MQ
    | protocol::REPLY_ACK
    | protocol::CONFIGURE_MEM_SLOTS
    | protocol::RESET_DEVICE
    | protocol::STATUS;

/// A device whose rings a front end sets up.
pub trait Device {
    /// Feature bits that it can serve.
    fn features(&self) -> u64;
    /// Rings that it has at most; an even number.
    fn rings(&self) -> u16;
    /// Serves a ring from now on.
    fn start(&mut self, index: u16, ring: Setup) -> Result<(), RingError>;
    /// Serves it no longer. Returns where it would go on; `None` where it did not run.
    fn stop(&mut self, index: u16) -> Option<u32>;
}

/// A ring as it is handed over.
#[derive(Clone)]
pub struct Setup {
    pub memory: Arc<PeerMemory>,
    /// Guest addresses.
    pub layout: Layout,
    /// Where it goes on.
    pub base: u32,
    pub features: u64,
    /// None: it is polled.
    pub kick: Option<Arc<EventFd>>,
    pub call: Option<Arc<EventFd>>,
    pub error: Option<Arc<EventFd>>,
}

/// What a front end did wrong.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    #[error("{0:?} before SetOwner")]
    NoOwner(Code),
    #[error("SetFeatures with bits {0:#x}, which were not offered")]
    Features(u64),
    #[error("SetProtocolFeatures with bits {0:#x}, which were not offered")]
    Protocol(u64),
    #[error("{0:?} without its protocol feature")]
    NotNegotiated(Code),
    #[error("{0:?} for ring {1}, which does not exist")]
    NoRing(Code, u32),
    #[error("{0:?} of {1}, which is none")]
    Value(Code, u32),
    #[error("memory region at {0:#x} {1}")]
    Region(u64, MapError),
    #[error("more than {MOST_SLOTS} memory regions")]
    Slots,
    #[error("no memory region at {0:#x}, {1:#x} bytes long")]
    NoRegion(u64, u64),
    #[error("{0:?} with an fd that is no eventfd")]
    NoEvent(Code),
    #[error("ring {0}: its {1} at {2:#x} is in no memory region")]
    Place(u16, &'static str, u64),
    #[error("ring {0}: {1}")]
    Ring(u16, RingError),
    #[error("a request {0:?} that this end does not know")]
    Unspoken(Code),
}

/// What a message is answered with, beyond success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing, unless an acknowledgement was asked for.
    Done,
    Number(u64),
    State(RingState),
}

#[derive(Clone, Default)]
struct Ring {
    size: u16,
    /// In the front end's addresses: descriptors, driver area, device area.
    place: Option<[u64; 3]>,
    base: u32,
    kick: Option<Arc<EventFd>>,
    call: Option<Arc<EventFd>>,
    error: Option<Arc<EventFd>>,
    /// SET_VRING_KICK came, with or without an fd.
    ready: bool,
    enabled: bool,
    runs: bool,
}

/// The state of one connection.
pub struct Backend<D: Device> {
    device: D,
    owned: bool,
    features: u64,
    protocol: u64,
    status: u64,
    memory: Arc<PeerMemory>,
    rings: Vec<Ring>,
    bell: Bell,
}

impl<D: Device> Backend<D> {
    /// A front end has connected.
    pub fn new(device: D) -> Backend<D> {
        let rings = vec![Ring::default(); device.rings().into()];
        Backend {
            device,
            owned: false,
            features: 0,
            protocol: 0,
            status: 0,
            memory: Arc::default(),
            rings,
            bell: Bell::default(),
        }
    }

    /// True if acknowledgements were agreed on.
    pub fn acknowledges(&self) -> bool {
        self.protocol & protocol::REPLY_ACK != 0
    }

    /// Does what is asked. After an error the connection is of no more use.
    pub fn handle(&mut self, request: Request, mut fds: Vec<OwnedFd>) -> Result<Answer, BackendError> {
        let code = request.code();
        // What only asks, or agrees, may come first: QEMU asks for all of this before it sends SetOwner.
        let free = matches!(
            request,
            Request::SetOwner
                | Request::GetFeatures
                | Request::SetFeatures(_)
                | Request::GetProtocolFeatures
                | Request::SetProtocolFeatures(_)
                | Request::GetQueueNum
                | Request::GetMaxMemSlots
        );
        if !self.owned && !free {
            return Err(BackendError::NoOwner(code));
        }
        match request {
            Request::SetOwner => self.owned = true,
            Request::GetFeatures => return Ok(Answer::Number(self.device.features() | F_PROTOCOL)),
            Request::SetFeatures(bits) => self.set_features(bits)?,
            Request::GetProtocolFeatures => return Ok(Answer::Number(SPOKEN)),
            Request::SetProtocolFeatures(bits) if bits & !SPOKEN != 0 => {
                return Err(BackendError::Protocol(bits & !SPOKEN));
            }
            Request::SetProtocolFeatures(bits) => self.protocol = bits,
            Request::GetQueueNum => return Ok(Answer::Number(u64::from(self.device.rings() / 2))),
            Request::ResetOwner => self.reset(),
            Request::ResetDevice => {
                self.spoken(code, protocol::RESET_DEVICE)?;
                self.reset();
            }
            Request::SetMemTable(regions) => {
                let mut memory = PeerMemory::default();
                for (region, fd) in regions.into_iter().zip(fds) {
                    memory =
                        memory.with(region, fd).map_err(|error| BackendError::Region(region.guest, error))?;
                }
                self.set_memory(memory)?;
            }
            Request::GetMaxMemSlots => return Ok(Answer::Number(MOST_SLOTS as u64)),
            Request::AddMemReg(region) => {
                self.spoken(code, protocol::CONFIGURE_MEM_SLOTS)?;
                let fd = fds.pop().filter(|_| self.memory.count() < MOST_SLOTS).ok_or(BackendError::Slots)?;
                let memory = self
                    .memory
                    .with(region, fd)
                    .map_err(|error| BackendError::Region(region.guest, error))?;
                self.set_memory(memory)?;
            }
            Request::RemMemReg(region) => {
                self.spoken(code, protocol::CONFIGURE_MEM_SLOTS)?;
                let memory = self.memory.without(region);
                self.set_memory(memory.ok_or(BackendError::NoRegion(region.guest, region.size))?)?;
            }
            Request::SetVringNum(state) => {
                let size = u16::try_from(state.value).ok().filter(|size| (1..=32768).contains(size));
                let size = size.ok_or(BackendError::Value(code, state.value))?;
                self.change(code, state.index, |ring| ring.size = size)?;
            }
            Request::SetVringAddr(places) => {
                let place = [places.descriptors, places.available, places.used];
                self.change(code, places.index, |ring| ring.place = Some(place))?;
            }
            Request::SetVringBase(state) => self.change(code, state.index, |ring| ring.base = state.value)?,
            Request::GetVringBase(state) => {
                let index = self.ring(code, state.index)?;
                self.halt(index);
                let ring = &mut self.rings[usize::from(index)];
                (ring.ready, ring.kick, ring.call) = (false, None, None);
                return Ok(Answer::State(RingState { index: state.index, value: ring.base }));
            }
            Request::SetVringKick(fd) => {
                let event = self.event(code, fd, fds)?;
                self.change(code, fd.index.into(), |ring| (ring.kick, ring.ready) = (event, true))?;
            }
            Request::SetVringCall(fd) => {
                let event = self.event(code, fd, fds)?;
                if let Some(event) = &event {
                    // What was given back while there was none, or another, goes unseen otherwise.
                    self.bell.ring(event);
                }
                self.change(code, fd.index.into(), |ring| ring.call = event)?;
            }
            Request::SetVringErr(fd) => {
                let event = self.event(code, fd, fds)?;
                self.change(code, fd.index.into(), |ring| ring.error = event)?;
            }
            Request::SetVringEnable(state) => match state.value {
                0 | 1 => self.change(code, state.index, |ring| ring.enabled = state.value == 1)?,
                value => return Err(BackendError::Value(code, value)),
            },
            Request::SetStatus(status) => {
                self.status = status;
                if status == 0 {
                    self.reset();
                }
            }
            Request::GetStatus => return Ok(Answer::Number(self.status)),
            Request::NetSetMtu(_)
            | Request::SetBackendReqFd
            | Request::GetConfig(_)
            | Request::SetConfig(_)
            | Request::GetInflightFd(_)
            | Request::SetInflightFd(_) => return Err(BackendError::Unspoken(code)),
        }
        Ok(Answer::Done)
    }

    fn spoken(&self, code: Code, bit: u64) -> Result<(), BackendError> {
        if self.protocol & bit != 0 { Ok(()) } else { Err(BackendError::NotNegotiated(code)) }
    }

    fn set_features(&mut self, bits: u64) -> Result<(), BackendError> {
        let unknown = bits & !(self.device.features() | F_PROTOCOL);
        if unknown != 0 {
            return Err(BackendError::Features(unknown));
        }
        self.features = bits;
        self.restart_all(|_| ())
    }

    fn set_memory(&mut self, memory: PeerMemory) -> Result<(), BackendError> {
        let memory = Arc::new(memory);
        self.restart_all(|backend| backend.memory = memory)
    }

    /// The ring of a number that a front end has said.
    fn ring(&self, code: Code, index: u32) -> Result<u16, BackendError> {
        let known = (index as usize) < self.rings.len();
        if known { Ok(index as u16) } else { Err(BackendError::NoRing(code, index)) }
    }

    fn event(
        &self,
        code: Code,
        fd: RingFd,
        mut fds: Vec<OwnedFd>,
    ) -> Result<Option<Arc<EventFd>>, BackendError> {
        self.ring(code, fd.index.into())?;
        let Some(fd) = fds.pop() else { return Ok(None) };
        event::of_peer(fd).map(|event| Some(Arc::new(event))).ok_or(BackendError::NoEvent(code))
    }

    /// Stops a ring, changes it, and starts it again where it may run.
    fn change(&mut self, code: Code, index: u32, act: impl FnOnce(&mut Ring)) -> Result<(), BackendError> {
        let index = self.ring(code, index)?;
        self.halt(index);
        act(&mut self.rings[usize::from(index)]);
        self.start(index)
    }

    fn restart_all(&mut self, act: impl FnOnce(&mut Self)) -> Result<(), BackendError> {
        let running: Vec<u16> =
            (0..self.rings.len() as u16).filter(|&index| self.rings[usize::from(index)].runs).collect();
        running.iter().for_each(|&index| self.halt(index));
        act(self);
        running.into_iter().try_for_each(|index| self.start(index))
    }

    /// Starts a ring if all is there.
    fn start(&mut self, index: u16) -> Result<(), BackendError> {
        let ring = &self.rings[usize::from(index)];
        // Without protocol features rings are born enabled.
        let enabled = ring.enabled || self.features & F_PROTOCOL == 0;
        let Some(place) = ring.place.filter(|_| ring.ready && enabled && ring.size > 0) else {
            return Ok(());
        };
        let guest = |name, address| {
            self.memory.guest_address(address).ok_or(BackendError::Place(index, name, address))
        };
        let [descriptors, available, used] = place;
        let layout = Layout {
            size: ring.size,
            descriptors: guest("descriptor table", descriptors)?,
            available: guest("driver area", available)?,
            used: guest("device area", used)?,
        };
        let (kick, call, error) = (ring.kick.clone(), ring.call.clone(), ring.error.clone());
        let (memory, features) = (self.memory.clone(), self.features);
        let setup = Setup { memory, layout, base: ring.base, features, kick, call, error };
        self.device.start(index, setup).map_err(|error| BackendError::Ring(index, error))?;
        self.rings[usize::from(index)].runs = true;
        Ok(())
    }

    fn halt(&mut self, index: u16) {
        let ring = &mut self.rings[usize::from(index)];
        if std::mem::take(&mut ring.runs) {
            match self.device.stop(index) {
                Some(base) => ring.base = base,
                // It broke meanwhile: only a new kick fd starts it again.
                None => ring.ready = false,
            }
        }
    }

    /// Every ring stops, and is as it was before it was set up. Memory stays.
    fn reset(&mut self) {
        for index in 0..self.rings.len() as u16 {
            self.halt(index);
        }
        self.rings.fill(Ring::default());
    }
}

impl<D: Device> Drop for Backend<D> {
    fn drop(&mut self) {
        self.reset();
    }
}
