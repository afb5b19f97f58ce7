//! What the user types or pipes in, on its way to the guest.
//!
//! A pipe or a file is read only when the port has room, so nothing is lost however slowly the
//! guest reads. A terminal is always read, or Ctrl-A x would not be seen: what the guest does not take
//! waits here, and beyond 64 KiB is dropped and counted.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use devices::line::Port;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use super::escape::{Command, Escape, HELP};
use super::raw::Raw;
use crate::status::say;

/// Bytes of one read(2).
const CHUNK: usize = 4096;
/// Keys that wait for the guest.
const TYPED_AHEAD: usize = 64 << 10;

/// How epoll watches the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watch {
    Off,
    /// As long as there is something to read.
    Level,
    /// A terminal whose foreground is another job: look only when a new key comes.
    Edge,
}

/// The input.
pub struct Input {
    file: File,
    port: Arc<Mutex<dyn Port>>,
    /// Where the file is a terminal.
    terminal: Option<Raw>,
    /// The terminal is in raw mode, and its keys are for the guest.
    raw: bool,
    escape: Escape,
    typed: VecDeque<u8>,
    dropped: u64,
    watch: Watch,
    /// epoll refuses regular files (EPERM): they are always ready.
    always_ready: bool,
    ended: bool,
}

impl Input {
    /// Reads `file`; a terminal goes into raw mode now.
    pub fn new(file: File, port: Arc<Mutex<dyn Port>>) -> io::Result<Input> {
        let terminal = Raw::new(file.try_clone()?);
        let raw = terminal.as_ref().is_some_and(Raw::enter);
        Ok(Input {
            file,
            port,
            terminal,
            raw,
            escape: Escape::default(),
            typed: VecDeque::new(),
            dropped: 0,
            watch: Watch::Off,
            always_ready: false,
            ended: false,
        })
    }

    /// Keys dropped because the guest read none for too long.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The terminal back to what it was.
    pub fn leave(&mut self) {
        self.raw = false;
        if let Some(terminal) = &self.terminal {
            terminal.leave();
        }
    }

    /// Raw mode again, if the terminal is this job's.
    pub fn enter(&mut self) {
        self.raw = self.terminal.as_ref().is_some_and(Raw::enter);
    }

    /// Hands over all that can be had without waiting, and has epoll (event data `token`) watch for more.
    /// Called at first, when the port has room again, and after a change of mode.
    pub fn pump(&mut self, epoll: &Epoll, token: u64) -> io::Result<()> {
        self.push_typed();
        self.rearm(epoll, token)?;
        while self.always_ready && self.wants() {
            self.read();
        }
        Ok(())
    }

    /// The file has something to read.
    pub fn ready(&mut self, epoll: &Epoll, token: u64) -> io::Result<Option<Command>> {
        if !self.raw && self.terminal.as_ref().is_some_and(Raw::is_ours) {
            self.enter();
        }
        let command = if self.terminal.is_none() || self.raw { self.read() } else { None };
        self.rearm(epoll, token)?;
        Ok(command)
    }

    /// Whether more input would be of use.
    fn wants(&self) -> bool {
        !self.ended && (self.terminal.is_some() || self.port().space() > 0)
    }

    fn port(&self) -> MutexGuard<'_, dyn Port + 'static> {
        self.port.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&mut self) -> Option<Command> {
        let mut chunk = [0; CHUNK];
        let room = if self.terminal.is_some() { CHUNK } else { self.port().space().min(CHUNK) };
        if room == 0 {
            return None;
        }
        match (&self.file).read(&mut chunk[..room]) {
            Ok(0) => self.ended = true,
            Ok(count) if self.terminal.is_some() => return self.type_in(&chunk[..count]),
            Ok(count) => {
                self.port().push(&chunk[..count]);
            }
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
            // EIO of a terminal: it is gone, or another job has just become its foreground.
            Err(_) if self.terminal.as_ref().is_some_and(|terminal| !terminal.is_ours()) => self.raw = false,
            Err(_) => self.ended = true,
        }
        None
    }

    /// Keys: some are for the monitor.
    fn type_in(&mut self, keys: &[u8]) -> Option<Command> {
        let mut guest = Vec::with_capacity(keys.len() + 1);
        for &key in keys {
            match self.escape.key(key, &mut guest) {
                Some(Command::Help) => say(HELP),
                Some(command) => return Some(command),
                None => {}
            }
        }
        let room = TYPED_AHEAD - self.typed.len();
        self.typed.extend(guest.iter().take(room));
        self.dropped += guest.len().saturating_sub(room) as u64;
        self.push_typed();
        None
    }

    fn push_typed(&mut self) {
        self.typed.make_contiguous();
        let count = self.port().push(self.typed.as_slices().0);
        self.typed.drain(..count);
    }

    fn rearm(&mut self, epoll: &Epoll, token: u64) -> io::Result<()> {
        let watch = match &self.terminal {
            _ if self.always_ready || !self.wants() => Watch::Off,
            Some(_) if !self.raw => Watch::Edge,
            _ => Watch::Level,
        };
        let operation = match (self.watch, watch) {
            (old, new) if old == new => return Ok(()),
            (Watch::Off, _) => ControlOperation::Add,
            (_, Watch::Off) => ControlOperation::Delete,
            _ => ControlOperation::Modify,
        };
        let events =
            if watch == Watch::Edge { EventSet::IN | EventSet::EDGE_TRIGGERED } else { EventSet::IN };
        match epoll.ctl(operation, self.file.as_raw_fd(), EpollEvent::new(events, token)) {
            Ok(()) => self.watch = watch,
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => self.always_ready = true,
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
