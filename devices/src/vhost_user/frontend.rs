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

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
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

/// What the device's own threads and the keeper of its connection share.
struct Shared {
    name: String,
    address: Address,
    /// What every later peer must offer, too.
    features: u64,
    /// Queues, or queue pairs.
    queues: u16,
    /// Rings that are on when the driver is ready.
    on: u16,
    state: Mutex<State>,
    /// Tells the keeper that something is wanted of it.
    wake: EventFd,
    /// Tells others that the keeper has spoken with the peer.
    spoken: Condvar,
    /// Lines said of its peer.
    lines: AtomicU64,
}

/// Lines of one device about its peer; a guest that brings its peer down again and again must not fill a log.
const MOST_LINES: u64 = 64;

struct State {
    peer: Option<Arc<Session>>,
    /// What the keeper speaks on, to be cut when it shall speak no longer.
    line: Option<Arc<UnixStream>>,
    rings: Held,
    /// Rings that shall be on.
    on: u16,
    /// The rings shall come back.
    stopping: bool,
    config: Config,
    leaving: bool,
}

/// The rings of a driver that is ready.
enum Held {
    /// There is none.
    None,
    /// From start to stop.
    Some(Rings),
    /// The keeper speaks with the peer about them.
    Spoken,
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

/// What the keeper does next.
enum Next {
    /// Tells the peer of rings.
    Give(Arc<Session>),
    /// … that others of them are on.
    Switch(Arc<Session>),
    /// … that they are no longer its.
    Take(Arc<Session>),
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

    /// Waits until it is `done`, for so long.
    fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        time: Duration,
        done: impl Fn(&State) -> bool,
    ) -> MutexGuard<'a, State> {
        let waited = self.spoken.wait_timeout_while(state, time, |state| !done(state));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Whoever has the rings shall not have them; what they were made of, if that is so within `time`.
    fn take_back(&self, time: Duration) -> Option<Vec<QueueResources>> {
        let mut state = self.state();
        state.stopping = true;
        let back = |state: &State| match &state.rings {
            Held::None => true,
            Held::Some(rings) => !rings.are_there(),
            Held::Spoken => false,
        };
        if !back(&state) {
            self.wake();
        }
        let mut state = self.wait(state, time, back);
        if !back(&state) {
            return None;
        }
        state.stopping = false;
        match std::mem::replace(&mut state.rings, Held::None) {
            Held::Some(rings) => Some(rings.into_queues()),
            _ => Some(Vec::new()),
        }
    }

    /// Whatever is being said, or waited for, is over.
    fn cut(&self) {
        if let Some(line) = &self.state().line {
            socket::shut_down(line.as_fd());
        }
    }

    /// The peer is gone, or is no good: the guest's requests wait in their rings for the next.
    fn lose(&self) {
        let mut state = self.state();
        (state.peer, state.line) = (None, None);
        if let Held::Some(rings) = &mut state.rings {
            rings.lose();
        }
        self.spoken.notify_all();
    }

    fn say(&self, what: std::fmt::Arguments<'_>) {
        let end = match self.lines.fetch_add(1, Ordering::Relaxed) + 1 {
            nth if nth > MOST_LINES => return,
            MOST_LINES => "; from here on its comings and goings are not said",
            _ => "",
        };
        say(format_args!("{}: {}: {what}{end}", self.name, self.address.socket.display()));
    }

    /// Speaks with the peer, and makes the connection anew.
    fn keep(&self) {
        let (mut pause, mut since, mut refused) = (FIRST_PAUSE, Instant::now(), String::new());
        loop {
            let told = match self.next() {
                Next::Leave => return,
                Next::Give(peer) => self.speak(|rings, on| rings.give(&peer, on)),
                Next::Switch(peer) => self.speak(|rings, on| rings.switch(&peer, on)),
                Next::Take(peer) => self.speak(|rings, _| rings.take(&peer)),
                Next::Watch(peer) => {
                    let watched = self.watch(&peer);
                    // One that leaves as soon as it has come is not worth more haste each time.
                    if since.elapsed() > LONGEST_PAUSE {
                        pause = FIRST_PAUSE;
                    }
                    watched
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
                            self.lose();
                            let why = cause(&error);
                            if why != refused {
                                self.say(format_args!("{error}; it is tried again"));
                                refused = why;
                            }
                        }
                    }
                    continue;
                }
            };
            if let Err(error) = told {
                self.lose();
                if !self.state().leaving {
                    self.say(format_args!("{error}; its requests wait until it is back"));
                }
                refused = cause(&error);
            }
        }
    }

    fn next(&self) -> Next {
        let state = self.state();
        if state.leaving {
            return Next::Leave;
        }
        let Some(peer) = state.peer.clone() else { return Next::Retry };
        match &state.rings {
            Held::Some(rings) if state.stopping && rings.are_there() => Next::Take(peer),
            Held::Some(rings) if !rings.are_there() => Next::Give(peer),
            Held::Some(rings) if rings.on() != state.on => Next::Switch(peer),
            _ => Next::Watch(peer),
        }
    }

    /// Speaks with a peer about the rings, if there are any, without holding up others: with them, and how many
    /// shall be on.
    fn speak(
        &self,
        what: impl FnOnce(&mut Rings, u16) -> Result<(), SessionError>,
    ) -> Result<(), SessionError> {
        let mut state = self.state();
        let mut rings = match std::mem::replace(&mut state.rings, Held::Spoken) {
            Held::Some(rings) => rings,
            none => {
                state.rings = none;
                return Ok(());
            }
        };
        let on = state.on;
        drop(state);
        let said = what(&mut rings, on);
        if said.is_err() {
            rings.lose();
        }
        self.state().rings = Held::Some(rings);
        self.spoken.notify_all();
        said
    }

    /// Watches a peer, until something is wanted of it.
    fn watch(&self, peer: &Session) -> Result<(), SessionError> {
        let mut notices = peer.notices();
        loop {
            let fds = [socket::event(&self.wake), peer.line(), notices.map_or(peer.line(), |n| n.as_fd())];
            let Ok([woken, speaks, asks]) = socket::wait_any(fds, Ready::Read, None) else { return Ok(()) };
            // Nobody else talks with the peer: what is there now was not asked for.
            if speaks {
                peer.look().map_err(SessionError::Lost)?;
            }
            if asks && let Some(channel) = notices {
                match hear(channel) {
                    Ok(true) => self.read_config(peer)?,
                    Ok(false) => {}
                    // It need not keep this one open.
                    Err(_) => notices = None,
                }
            }
            if woken {
                let _ = self.wake.read();
                return Ok(());
            }
        }
    }

    fn read_config(&self, peer: &Session) -> Result<(), SessionError> {
        let len = self.state().config.bytes.len();
        if len > 0 {
            let bytes = peer.config(len)?;
            let mut state = self.state();
            state.config = Config { bytes, fresh: true };
            if let Held::Some(rings) = &state.rings {
                rings.config_changed();
            }
        }
        Ok(())
    }

    /// Connects again, to a peer that must be able to do what the first could.
    fn again(&self) -> Result<(), SessionError> {
        let line = self.address.connect()?;
        {
            let mut state = self.state();
            if state.leaving {
                return Ok(());
            }
            state.line = Some(line.clone());
        }
        let peer = Session::meet(line, self.address.patience)?;
        let missing = self.features & !peer.features();
        if missing != 0 {
            return Err(SessionError::Fewer(missing));
        }
        peer.serves(self.queues)?;
        if !self.state().stopping {
            self.speak(|rings, on| rings.give(&peer, on))?;
        }
        self.read_config(&peer)?;
        self.state().peer = Some(Arc::new(peer));
        self.say(format_args!("the peer is back"));
        Ok(())
    }
}

/// What makes an error another than the last: a peer that is silent is, whatever it was asked.
fn cause(error: &SessionError) -> String {
    if error.is_silence() { "silence".into() } else { error.to_string() }
}

#[cfg(test)]
mod tests;
