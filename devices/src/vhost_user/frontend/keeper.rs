//! The keeper: the one thread that speaks with the peer, and makes the connection anew.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::rings::Rings;
use super::super::session::{Session, SessionError, hear};
use super::shared::{Config, Held, Shared};
use crate::sys::socket::{self, Ready};

/// How long to wait before the first attempt to reach a peer again, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
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
    /// Speaks with the peer, and makes the connection anew.
    pub fn keep(&self) {
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
