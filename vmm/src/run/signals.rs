//! The signals that this process answers, taken off before any thread starts, so that no thread is ever
//! interrupted by one.
//!
//! SIGPIPE is ignored by Rust's runtime already: a write to a closed pipe is an error, not a death.
//! SIGTTOU and SIGTTIN are held off for good, so a background job may restore its terminal, and reads
//! EIO instead of being stopped.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};

use crate::sys::signal;

/// Signals that end the machine.
const ENDING: [i32; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];
/// Signals of job control.
const JOB: [i32; 4] = [libc::SIGTSTP, libc::SIGCONT, libc::SIGTTOU, libc::SIGTTIN];

/// What a signal wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// The machine shall end, by the signal of this number.
    End(u8),
    /// The process shall stop (SIGTSTP).
    Stop,
    /// It has been continued, perhaps in the foreground now (SIGCONT).
    Continued,
    /// Nothing (SIGTTIN, SIGTTOU).
    Nothing,
}

/// The signals, as a file.
pub struct Signals(File);

impl Signals {
    /// Blocks them in this thread and in all that it will start.
    pub fn take() -> io::Result<Signals> {
        signal::take(&[ENDING, JOB].concat()).map(Signals)
    }

    /// The next that has come; `None` where none has.
    pub fn next(&self) -> Option<Wish> {
        signal::next(&self.0).map(|number| match number {
            libc::SIGTSTP => Wish::Stop,
            libc::SIGCONT => Wish::Continued,
            _ if ENDING.contains(&number) => Wish::End(number as u8),
            _ => Wish::Nothing,
        })
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
