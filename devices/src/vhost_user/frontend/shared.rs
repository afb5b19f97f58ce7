//! What the device's own threads and the keeper of its connection share.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use vmm_sys_util::eventfd::EventFd;

use super::super::rings::Rings;
use super::super::session::{Address, Session};
use crate::say::say;
use crate::sys::socket;
use crate::virtio::backend::QueueResources;

/// What the device's own threads and the keeper of its connection share.
pub struct Shared {
    pub name: String,
    pub address: Address,
    /// What every later peer must offer, too.
    pub features: u64,
    /// Queues, or queue pairs.
    pub queues: u16,
    /// Rings that are on when the driver is ready.
    pub on: u16,
    pub state: Mutex<State>,
    /// Tells the keeper that something is wanted of it.
    pub wake: EventFd,
    /// Tells others that the keeper has spoken with the peer.
    pub spoken: Condvar,
    /// Lines said of its peer.
    pub lines: AtomicU64,
}

/// Lines of one device about its peer; a guest that brings its peer down again and again must not fill a log.
const MOST_LINES: u64 = 64;

pub struct State {
    pub peer: Option<Arc<Session>>,
    /// What the keeper speaks on, to be cut when it shall speak no longer.
    pub line: Option<Arc<UnixStream>>,
    pub rings: Held,
    /// Rings that shall be on.
    pub on: u16,
    /// The rings shall come back.
    pub stopping: bool,
    pub config: Config,
    pub leaving: bool,
}

/// The rings of a driver that is ready.
pub enum Held {
    /// There is none.
    None,
    /// From start to stop.
    Some(Rings),
    /// The keeper speaks with the peer about them.
    Spoken,
}

/// The device's configuration space, where the peer has it.
#[derive(Default)]
pub struct Config {
    pub bytes: Vec<u8>,
    /// It was read anew since the device has last asked.
    pub fresh: bool,
}

impl Shared {
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn wake(&self) {
        // Full only if it was written before: then it wakes all the same.
        let _ = self.wake.write(1);
    }

    /// Waits until it is `done`, for so long.
    pub fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        time: Duration,
        done: impl Fn(&State) -> bool,
    ) -> MutexGuard<'a, State> {
        let waited = self.spoken.wait_timeout_while(state, time, |state| !done(state));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Whoever has the rings shall not have them; what they were made of, if that is so within `time`.
    pub fn take_back(&self, time: Duration) -> Option<Vec<QueueResources>> {
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
    pub fn cut(&self) {
        if let Some(line) = &self.state().line {
            socket::shut_down(line.as_fd());
        }
    }

    /// The peer is gone, or is no good: the guest's requests wait in their rings for the next.
    pub fn lose(&self) {
        let mut state = self.state();
        (state.peer, state.line) = (None, None);
        if let Held::Some(rings) = &mut state.rings {
            rings.lose();
        }
        self.spoken.notify_all();
    }

    pub fn say(&self, what: std::fmt::Arguments<'_>) {
        let end = match self.lines.fetch_add(1, Ordering::Relaxed) + 1 {
            nth if nth > MOST_LINES => return,
            MOST_LINES => "; from here on its comings and goings are not said",
            _ => "",
        };
        say(format_args!("{}: {}: {what}{end}", self.name, self.address.socket.display()));
    }
}
