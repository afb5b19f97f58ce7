//! A terminal's line discipline (termios(3)).

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// The terminal that is in raw mode, for [`restore_at_once`].
static RAW: AtomicPtr<Terminal> = AtomicPtr::new(ptr::null_mut());

/// Columns and rows of a terminal; `None` where it is none, or doesn't know.
pub fn size(file: &File) -> Option<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize.
    let got = unsafe { libc::ioctl(file.as_raw_fd(), libc::TIOCGWINSZ as _, &raw mut size) };
    (got == 0 && size.ws_col > 0).then_some((size.ws_col, size.ws_row))
}

/// A terminal and the settings that it had when first seen.
pub struct Terminal {
    file: File,
    saved: libc::termios,
}

impl Terminal {
    /// `None` where `file` is no terminal.
    pub fn new(file: File) -> Option<Terminal> {
        if !file.is_terminal() {
            return None;
        }
        // SAFETY: termios is plain data, for which all zeroes is valid.
        let mut saved = unsafe { std::mem::zeroed() };
        // SAFETY: the pointer is to a termios that outlives the call.
        let got = unsafe { libc::tcgetattr(file.as_raw_fd(), &mut saved) };
        (got == 0).then_some(Terminal { file, saved })
    }

    /// Whether this process may read the terminal: it is no background job of its shell. A terminal
    /// that doesn't control this process knows no jobs.
    pub fn is_ours(&self) -> bool {
        // SAFETY: both take or return plain numbers; an error is one of them.
        let (foreground, own) = unsafe { (libc::tcgetpgrp(self.file.as_raw_fd()), libc::getpgrp()) };
        foreground == own || foreground < 0
    }

    /// Every key goes to the reader as it is: no echo, no lines, no signals, no flow control. Output
    /// processing stays, so that lines of this program still begin on the left.
    pub fn set_raw(&self) -> io::Result<()> {
        let mut raw = self.saved;
        raw.c_iflag &= !(libc::IGNBRK
            | libc::BRKINT
            | libc::PARMRK
            | libc::ISTRIP
            | libc::INLCR
            | libc::IGNCR
            | libc::ICRNL
            | libc::IXON);
        raw.c_lflag &= !(libc::ECHO | libc::ECHONL | libc::ICANON | libc::ISIG | libc::IEXTEN);
        raw.c_cflag = raw.c_cflag & !(libc::CSIZE | libc::PARENB) | libc::CS8;
        raw.c_cc[libc::VMIN] = 1;
        raw.c_cc[libc::VTIME] = 0;
        self.set(&raw)?;
        RAW.store(ptr::from_ref(self).cast_mut(), Ordering::Release);
        Ok(())
    }

    /// As it was when first seen.
    pub fn restore(&self) -> io::Result<()> {
        self.forget();
        self.set(&self.saved)
    }

    fn forget(&self) {
        let own = ptr::from_ref(self).cast_mut();
        // Another one's is left alone.
        let _ = RAW.compare_exchange(own, ptr::null_mut(), Ordering::AcqRel, Ordering::Relaxed);
    }

    fn set(&self, settings: &libc::termios) -> io::Result<()> {
        // TCSANOW: waiting for output to drain would hang where the reader has stopped it.
        // SAFETY: the pointer is to a termios that outlives the call.
        match unsafe { libc::tcsetattr(self.file.as_raw_fd(), libc::TCSANOW, settings) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.forget();
    }
}

/// The same, of the terminal that is in raw mode, from a signal handler of a process that ends.
pub fn restore_at_once() {
    // SAFETY: null, or a terminal that has not been dropped; it is not moved while it is in raw mode, for
    // its owner shares it.
    if let Some(terminal) = unsafe { RAW.load(Ordering::Acquire).as_ref() } {
        // One that has gone away needs no restoring.
        let _ = terminal.set(&terminal.saved);
    }
}
