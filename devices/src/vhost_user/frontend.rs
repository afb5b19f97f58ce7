//! The backend: another process serves the queues, and may die and come back.
//!
//! ```text
//!             ┌──────────── served: rings are the peer's ◄────────────┐
//!   start ───►│                                                       │ connected, agreed,
//!             │ peer closes, stalls or lies: one line                 │ told of all rings again
//!             ▼                                                       │
//!           waiting: the guest's requests stay in the rings ──────────┘ every so often
//! ```

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::rings::Rings;
use super::session::{Address, Session, SessionError, hear};
use crate::say::say;
use crate::sys::socket::{self, Ready};
use crate::virtio::backend::{BackendError, DataPath, QueueBackend, QueueResources};
use crate::virtio::userspace::Tuning;

/// How long to wait before the first attempt to reach a peer again, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

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

/// What the device's own threads and the keeper of its connection share.
struct Shared {
    name: String,
    address: Address,
    /// What every later peer must offer, too.
    features: u64,
    /// Queues, or queue pairs.
    queues: u16,
    state: Mutex<State>,
    /// Tells the keeper that something has changed.
    wake: EventFd,
    /// Lines said of its peer.
    lines: AtomicU64,
}

/// Lines of one device about its peer; a guest that brings its peer down again and again must not fill a log.
const MOST_LINES: u64 = 64;

struct State {
    peer: Option<Arc<Session>>,
    /// From start to stop.
    rings: Option<Rings>,
    /// Rings to be on when the driver is ready.
    on: u16,
    config: Config,
    leaving: bool,
}

/// The device's configuration space, where the peer has it.
#[derive(Default)]
struct Config {
    bytes: Vec<u8>,
    /// It was read anew since the device has last asked.
    fresh: bool,
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
        let peer = Session::open(&address).map_err(fail)?;
        peer.serves(wanted.queues).map_err(fail)?;
        let bytes = if wanted.config == 0 { Vec::new() } else { peer.config(wanted.config).map_err(fail)? };
        let wake = EventFd::new(EFD_NONBLOCK).map_err(|error| fail(SessionError::Socket(error)))?;
        let state = State {
            rings: None,
            on: wanted.on,
            config: Config { bytes, fresh: true },
            leaving: false,
            peer: None,
        };
        let shared = Arc::new(Shared {
            name: name.into(),
            features: peer.features(),
            queues: wanted.queues,
            state: Mutex::new(State { peer: Some(Arc::new(peer)), ..state }),
            wake,
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
        let State { peer, rings, .. } = &mut *state;
        let Some(rings) = rings else { return };
        match peer {
            None => rings.switch_later(on),
            Some(peer) => {
                if let Err(error) = rings.switch(peer, on) {
                    self.0.lose(&mut state, &error);
                }
            }
        }
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
        let mut state = self.shared.state();
        let on = state.on;
        let rings = Rings::new(queues, acked, on).map_err(|error| BackendError {
            deed: format!("hand the queues of {} to another process", self.shared.name),
            source: io::Error::other(error),
        })?;
        let State { peer, rings: slot, .. } = &mut *state;
        let rings = slot.insert(rings);
        if let Some(peer) = peer
            && let Err(error) = rings.give(peer, false)
        {
            self.shared.lose(&mut state, &error);
        }
        Ok(())
    }

    fn stop(&mut self) -> Vec<QueueResources> {
        let mut state = self.shared.state();
        let Some(mut rings) = state.rings.take() else { return Vec::new() };
        let taken = state.peer.as_ref().map(|peer| rings.take(peer));
        if !matches!(taken, Some(Ok(()))) {
            rings.take_alone();
        }
        if let Some(Err(error)) = taken {
            self.shared.lose(&mut state, &error);
        }
        rings.into_queues()
    }
}

impl Drop for VhostUser {
    fn drop(&mut self) {
        self.stop();
        self.shared.state().leaving = true;
        self.shared.wake();
        if let Some(keeper) = self.keeper.take() {
            // A keeper that panicked has printed why.
            let _ = keeper.join();
        }
    }
}

/// What the keeper does next.
enum Next {
    Watch(Arc<Session>),
    Retry,
    Leave,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // Full only if it was written before: then it wakes all the same.
        let _ = self.wake.write(1);
    }

    /// The peer is gone, or is no good: the guest's requests wait in their rings for the next.
    fn lose(&self, state: &mut State, why: &dyn std::fmt::Display) {
        if state.peer.take().is_some() {
            self.say(format_args!("{why}; its requests wait until it is back"));
            self.wake();
        }
    }

    fn say(&self, what: std::fmt::Arguments<'_>) {
        let end = match self.lines.fetch_add(1, Ordering::Relaxed) + 1 {
            nth if nth > MOST_LINES => return,
            MOST_LINES => "; from here on its comings and goings are not said",
            _ => "",
        };
        say(format_args!("{}: {}: {what}{end}", self.name, self.address.socket.display()));
    }

    /// Watches the connection, and makes it anew.
    fn keep(&self) {
        let (mut pause, mut since, mut refused) = (FIRST_PAUSE, Instant::now(), String::new());
        loop {
            match self.next() {
                Next::Leave => return,
                Next::Watch(peer) => {
                    self.watch(&peer);
                    // One that leaves as soon as it has come is not worth more haste each time.
                    if since.elapsed() > LONGEST_PAUSE {
                        pause = FIRST_PAUSE;
                    }
                }
                Next::Retry => {
                    // An error here means no more than that it is tried again.
                    let _ = socket::wait(socket::event(&self.wake), Ready::Read, Some(pause));
                    let _ = self.wake.read();
                    pause = (2 * pause).min(LONGEST_PAUSE);
                    match self.again() {
                        Ok(()) => {
                            since = Instant::now();
                            refused.clear();
                        }
                        // Not there yet.
                        Err(SessionError::Connect(_)) => {}
                        Err(error) => {
                            let why = error.to_string();
                            if why != refused {
                                self.say(format_args!("{why}; it is tried again"));
                                refused = why;
                            }
                        }
                    }
                }
            }
        }
    }

    fn next(&self) -> Next {
        let state = self.state();
        match &state.peer {
            _ if state.leaving => Next::Leave,
            Some(peer) => Next::Watch(peer.clone()),
            None => Next::Retry,
        }
    }

    /// Watches a peer until it is no longer ours.
    fn watch(&self, peer: &Arc<Session>) {
        let mut notices = peer.notices();
        loop {
            let fds = [socket::event(&self.wake), peer.line(), notices.map_or(peer.line(), |n| n.as_fd())];
            let Ok([woken, speaks, asks]) = socket::wait_any(fds, Ready::Read, None) else { return };
            if woken {
                let _ = self.wake.read();
            }
            // Whoever talks with the peer holds this: what is there now was not asked for.
            let mut state = self.state();
            if state.leaving || !state.peer.as_ref().is_some_and(|now| Arc::ptr_eq(now, peer)) {
                return;
            }
            if speaks && let Err(error) = peer.look() {
                self.lose(&mut state, &error);
                return;
            }
            if asks && let Some(channel) = notices {
                match hear(channel) {
                    Ok(true) => self.read_config(&mut state, peer),
                    Ok(false) => {}
                    // It need not keep this one open.
                    Err(_) => notices = None,
                }
            }
        }
    }

    fn read_config(&self, state: &mut State, peer: &Session) {
        let len = state.config.bytes.len();
        if len == 0 {
            return;
        }
        match peer.config(len) {
            Ok(bytes) => {
                state.config = Config { bytes, fresh: true };
                state.rings.iter().for_each(Rings::config_changed);
            }
            Err(error) => self.lose(state, &error),
        }
    }

    /// Connects again, to a peer that must be able to do what the first could.
    fn again(&self) -> Result<(), SessionError> {
        let peer = Session::open(&self.address)?;
        let missing = self.features & !peer.features();
        if missing != 0 {
            return Err(SessionError::Fewer(missing));
        }
        peer.serves(self.queues)?;
        let mut state = self.state();
        if state.leaving {
            return Ok(());
        }
        if let Some(rings) = &mut state.rings {
            rings.give(&peer, true)?;
        }
        let peer = Arc::new(peer);
        state.peer = Some(peer.clone());
        self.say(format_args!("the peer is back"));
        self.read_config(&mut state, &peer);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
