//! The console on this process's stdin and stdout, or on a file; the guest's port is serial or virtio.
//!
//! Built in two steps, because the port and the console need each other: [`Wire::open`], then a [`Port`] on
//! [`Wire::line`], then [`Wire::connect`].

pub mod escape;
mod input;
mod output;
mod raw;
mod summary;

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use devices::line::{Line, Port};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::config;
use crate::config::console::Place;
use crate::run::signals::{Signals, Wish};
use crate::sandbox::Sandbox;
use crate::status::{Fatal, Status};
use crate::sys::terminal;
use escape::Command;
use input::Input;
use output::{Buffer, Output};
pub use summary::Summary;

/// Why there is no console.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("console file {}: {}", .0.display(), .1)]
    File(PathBuf, #[source] io::Error),
    #[error("console: {0}")]
    Host(#[from] io::Error),
}

impl Fatal for Error {
    fn status(&self) -> Status {
        match self {
            Error::File(_, error) if error.kind() == ErrorKind::PermissionDenied => Status::Permission,
            Error::File(..) => Status::Device,
            Error::Host(_) => Status::Resource,
        }
    }
}

/// The far end of the line, before a port is at the near end.
pub struct Wire {
    output: File,
    input: Option<File>,
    room: EventFd,
    buffer: Buffer,
}

/// What the vCPU threads see of it.
struct End {
    output: Buffer,
    room: EventFd,
}

impl Line for End {
    fn transmit(&mut self, byte: u8) {
        self.output.put(byte);
    }

    fn room(&mut self) {
        // Fails only where the counter is full: then it has been told already.
        let _ = self.room.write(1);
    }
}

impl Wire {
    /// Opens what `config` names; `None` where there shall be no console. A terminal is not touched
    /// yet.
    pub fn open(config: &config::Console) -> Result<Option<Wire>, Error> {
        let (output, input) = match &config.place {
            Place::None => return Ok(None),
            Place::File(path) => (create(path).map_err(|error| Error::File(path.clone(), error))?, None),
            Place::Stdio => (copy(&io::stdout())?, Some(copy(&io::stdin())?)),
        };
        Ok(Some(Wire::between(output, input)?))
    }

    /// A console on files that are open already.
    pub fn between(output: File, input: Option<File>) -> io::Result<Wire> {
        let room = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        Ok(Wire { output, input, room, buffer: Buffer::new() })
    }

    /// What to plug the serial port into.
    pub fn line(&self) -> io::Result<Box<dyn Line>> {
        Ok(Box::new(End { output: self.buffer.clone(), room: self.room.try_clone()? }))
    }

    /// Columns and rows, where it is a terminal.
    pub fn size(&self) -> Option<(u16, u16)> {
        terminal::size(self.input.as_ref()?)
    }

    /// Puts a terminal into raw mode; `_signals` must have been taken before, so that the thread that writes
    /// gets none. From here on the terminal is restored when the [`Console`] is dropped:
    /// `std::process::exit` would leave it raw.
    pub fn connect(self, port: Arc<Mutex<dyn Port>>, _signals: &Signals) -> io::Result<Console> {
        let output = Output::new(self.buffer, self.output);
        let input = self.input.map(|file| Input::new(file, port.clone())).transpose()?;
        Ok(Console { output, input, room: self.room, port })
    }
}

/// Its own descriptor of the same open file.
fn copy(file: &impl AsFd) -> io::Result<File> {
    file.as_fd().try_clone_to_owned().map(File::from)
}

/// A new or emptied file. O_NONBLOCK: a FIFO that nobody reads is an error now, not a wait for ever.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
}

/// The console of a machine that runs.
pub struct Console {
    output: Output,
    input: Option<Input>,
    room: EventFd,
    port: Arc<Mutex<dyn Port>>,
}

impl Console {
    /// Starts the thread that writes; until then, what the guest says waits.
    pub fn start(&mut self, sandbox: &Sandbox) -> io::Result<()> {
        self.output.start(sandbox)
    }

    /// Has epoll watch the input, with these event data.
    pub(super) fn watch(&mut self, epoll: &Epoll, input: u64, room: u64) -> io::Result<()> {
        epoll.ctl(ControlOperation::Add, self.room.as_raw_fd(), EpollEvent::new(EventSet::IN, room))?;
        self.on_room(epoll, input)
    }

    /// There is input.
    pub(super) fn on_input(&mut self, epoll: &Epoll, input: u64) -> io::Result<Option<Command>> {
        self.input.as_mut().map_or(Ok(None), |source| source.ready(epoll, input))
    }

    /// The serial port has room again, or raw mode has been entered or left.
    pub(super) fn on_room(&mut self, epoll: &Epoll, input: u64) -> io::Result<()> {
        // Empty where it wasn't the port that asked.
        let _ = self.room.read();
        self.input.as_mut().map_or(Ok(()), |source| source.pump(epoll, input))
    }

    /// Restores the terminal; [`Console::enter`] takes it again.
    pub(super) fn leave(&mut self) {
        self.input.iter_mut().for_each(Input::leave);
    }

    /// Raw mode, if the terminal is this job's.
    pub(super) fn enter(&mut self) {
        self.input.iter_mut().for_each(Input::enter);
    }

    /// Restores the terminal and writes out what waits, when all vCPUs have stopped. A reader that takes
    /// nothing for three seconds, or a signal, ends it at once.
    pub fn finish(mut self, signals: &Signals) -> Summary {
        self.leave();
        let asked = || std::iter::from_fn(|| signals.next()).any(|wish| matches!(wish, Wish::End(_)));
        let fate = self.output.finish(asked);
        Summary {
            traffic: self.port.lock().unwrap_or_else(PoisonError::into_inner).traffic(),
            written: fate.written,
            dropped: fate.dropped,
            dropped_keys: self.input.map_or(0, |input| input.dropped()),
            error: fate.error,
        }
    }
}
