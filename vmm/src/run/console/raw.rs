//! A terminal in raw mode, and every way out of it.
//!
//! Left by [`Raw::leave`], by drop, and by a panic, also one that aborts: then a hook restores it
//! before the message. SIGKILL and SIGSTOP cannot be answered; after them `stty sane` helps.

use std::fs::File;
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::sys::terminal::Terminal;

struct Shared {
    terminal: Terminal,
    raw: AtomicBool,
}

impl Shared {
    fn restore(&self) {
        if self.raw.swap(false, Ordering::SeqCst) && self.terminal.is_ours() {
            // A terminal that has gone away needs no restoring.
            let _ = self.terminal.restore();
        }
    }
}

/// The terminal that the user types into.
pub struct Raw(Arc<Shared>);

impl Raw {
    /// `None` where `file` is no terminal.
    pub fn new(file: File) -> Option<Raw> {
        let shared = Arc::new(Shared { terminal: Terminal::new(file)?, raw: AtomicBool::new(false) });
        let (ours, before) = (shared.clone(), panic::take_hook());
        panic::set_hook(Box::new(move |info| {
            ours.restore();
            before(info);
        }));
        Some(Raw(shared))
    }

    /// Sets raw mode, also where somebody else has changed it meanwhile. A background job leaves the
    /// terminal alone. Returns whether it is in raw mode now.
    pub fn enter(&self) -> bool {
        let raw = self.0.terminal.is_ours() && self.0.terminal.set_raw().is_ok();
        self.0.raw.store(raw, Ordering::SeqCst);
        raw
    }

    /// Whether this process may read it.
    pub fn is_ours(&self) -> bool {
        self.0.terminal.is_ours()
    }

    /// Restores it.
    pub fn leave(&self) {
        self.0.restore();
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::thread;

    use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
    use rustix::termios::{LocalModes, tcgetattr};

    use super::*;

    /// Both ends of a pseudo-terminal.
    fn pair() -> (File, File) {
        let main = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        unlockpt(&main).unwrap();
        let name = ptsname(&main, Vec::new()).unwrap().into_string().unwrap();
        (File::from(main), OpenOptions::new().read(true).write(true).open(name).unwrap())
    }

    fn is_raw(terminal: &File) -> bool {
        let modes = tcgetattr(terminal).unwrap().local_modes;
        !modes.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    #[test]
    fn entered_left_and_left_by_drop() {
        let (_main, terminal) = pair();
        let raw = Raw::new(terminal.try_clone().unwrap()).unwrap();
        assert!(!is_raw(&terminal));
        assert!(raw.enter() && is_raw(&terminal));
        raw.leave();
        assert!(!is_raw(&terminal));
        assert!(raw.enter());
        drop(raw);
        assert!(!is_raw(&terminal));
    }

    #[test]
    fn a_panic_of_any_thread_restores_it() {
        let (_main, terminal) = pair();
        let raw = Raw::new(terminal.try_clone().unwrap()).unwrap();
        assert!(raw.enter());
        assert!(thread::spawn(|| panic!("a test of what a panic does to the terminal")).join().is_err());
        assert!(!is_raw(&terminal));
    }

    #[test]
    fn a_file_is_no_terminal() {
        assert!(Raw::new(File::open("/dev/null").unwrap()).is_none());
    }
}
