//! The backend: another process serves the queues, and may die and come back.
//!
//! ```text
//!             ┌──────────── served: rings are the peer's ◄────────────┐
//!   start ───►│                                                       │ connected, agreed,
//!             │ peer closes, stalls or lies: one line                 │ told of all rings again
//!             ▼                                                       │
//!           waiting: the guest's requests stay in the rings ──────────┘ every so often
//! ```
//!
//! Only the keeper, a thread of its own, speaks with the peer. Whoever else wants something of it says what, and
//! waits a moment at most: a peer that doesn't answer holds up no vCPU.
//!
//! - [`shared`]  what both sides see
//! - [`keeper`]  the thread that speaks

mod keeper;
mod shared;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use self::shared::{Config, Held, Shared, State};
use super::rings::Rings;
use super::session::{Address, Session, SessionError};
use crate::virtio::backend::{BackendError, DataPath, QueueBackend, QueueResources};
use crate::virtio::userspace::Tuning;

/// How long others than the keeper wait for a peer's answer: one that is well answers in microseconds, and a
/// driver that waits for its reset to be complete looks again.
const MOMENT: Duration = Duration::from_millis(20);
/// … at each look: a driver that looks without a pause then makes fewer exits.
const LOOK: Duration = Duration::from_millis(1);

/// Why a peer can't be used from the start.
#[derive(Debug, thiserror::Error)]
#[error("use vhost-user socket {}: {source}", socket.display())]
pub struct OpenError {
    pub socket: PathBuf,
    pub source: SessionError,
}

impl OpenError {
    /// Whether this user may not.
    pub fn denied(&self) -> bool {
        matches!(&self.source, SessionError::Connect(error) if error.kind() == io::ErrorKind::PermissionDenied)
    }
}

/// The backend.
pub struct VhostUser {
    shared: Arc<Shared>,
    keeper: Option<JoinHandle<()>>,
}

/// What a device wants of its peer.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Queues, or queue pairs of a network card.
    pub queues: u16,
    /// Bytes of configuration space, 0 if it has none of the peer's.
    pub config: usize,
    /// Rings that are on at first.
    pub on: u16,
}

impl VhostUser {
    /// Connects a device called `name` to the peer that listens at `address`.
    pub fn open(
        name: &str,
        address: Address,
        wanted: Wanted,
        tuning: &Tuning,
    ) -> Result<VhostUser, OpenError> {
        let fail = |source| OpenError { socket: address.socket.clone(), source };
        let line = address.connect().map_err(fail)?;
        let peer = Session::meet(line.clone(), address.patience).map_err(fail)?;
        peer.serves(wanted.queues).map_err(fail)?;
        let bytes = if wanted.config == 0 { Vec::new() } else { peer.config(wanted.config).map_err(fail)? };
        let wake = EventFd::new(EFD_NONBLOCK).map_err(|error| fail(SessionError::Socket(error)))?;
        let shared = Arc::new(Shared {
            name: name.into(),
            features: peer.features(),
            queues: wanted.queues,
            on: wanted.on,
            state: Mutex::new(State {
                peer: Some(Arc::new(peer)),
                line: Some(line),
                rings: Held::None,
                on: wanted.on,
                stopping: false,
                config: Config { bytes, fresh: true },
                leaving: false,
            }),
            wake,
            spoken: Condvar::new(),
            lines: AtomicU64::new(0),
            address: address.clone(),
        });
        let keeper = Builder::new().name(name.replace('.', "")).stack_size(STACK).spawn({
            let (shared, keeps) = (shared.clone(), tuning.keeps.clone());
            move || {
                keeps();
                shared.keep();
            }
        });
        let keeper = Some(keeper.map_err(|error| fail(SessionError::Socket(error)))?);
        Ok(VhostUser { shared, keeper })
    }

    /// Who else may switch rings.
    pub fn switch(&self) -> Switch {
        Switch(self.shared.clone())
    }

    /// The configuration space, if it is new since the last call.
    pub fn config(&self) -> Option<Vec<u8>> {
        let mut state = self.shared.state();
        std::mem::take(&mut state.config.fresh).then(|| state.config.bytes.clone())
    }
}

/// The keeper is a few frames deep.
const STACK: usize = 128 << 10;

/// Switches a device's rings on and off, whoever serves them now.
pub struct Switch(Arc<Shared>);

impl Switch {
    /// Leaves the first `on` rings on, now and with every peer to come, until the device is reset.
    pub fn first(&self, on: u16) {
        let mut state = self.0.state();
        state.on = on;
        self.0.wake();
        let done = |state: &State| match &state.rings {
            Held::None => true,
            Held::Some(rings) => !rings.are_there() || rings.on() == on,
            Held::Spoken => false,
        };
        drop(self.0.wait(state, MOMENT, done));
    }
}

impl QueueBackend for VhostUser {
    fn data_path(&self) -> DataPath {
        DataPath::VhostUser
    }

    fn features(&self) -> u64 {
        self.shared.features
    }

    fn start(&mut self, queues: Vec<QueueResources>, acked: u64) -> Result<(), BackendError> {
        let rings = Rings::new(queues, acked).map_err(|error| BackendError {
            deed: format!("hand the queues of {} to another process", self.shared.name),
            source: io::Error::other(error),
        })?;
        let mut state = self.shared.state();
        (state.rings, state.on, state.stopping) = (Held::Some(rings), self.shared.on, false);
        self.shared.wake();
        Ok(())
    }

    fn stop(&mut self) -> Vec<QueueResources> {
        let patience = self.shared.address.patience;
        self.shared.take_back(patience).unwrap_or_else(|| {
            // It may answer each question in time, and never be done.
            self.shared.cut();
            self.shared.take_back(patience).unwrap_or_default()
        })
    }

    fn stop_soon(&mut self) -> bool {
        self.shared.take_back(MOMENT).is_some()
    }

    fn stopped(&mut self) -> bool {
        self.shared.take_back(LOOK).is_some()
    }
}

impl Drop for VhostUser {
    fn drop(&mut self) {
        self.shared.take_back(MOMENT);
        self.shared.state().leaving = true;
        self.shared.cut();
        self.shared.wake();
        if let Some(keeper) = self.keeper.take() {
            // A keeper that panicked has printed why.
            let _ = keeper.join();
        }
    }
}

#[cfg(test)]
mod tests;
