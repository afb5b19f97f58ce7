//! A user at a terminal: a pseudo-terminal, what is typed into it, and what it shows.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

use super::host;

/// How long anything may take to happen.
fn patience() -> Duration {
    Duration::from_secs(if host::in_lab() { 120 } else { 20 })
}

/// The terminal, and the end of it that a program gets.
pub struct Terminal {
    keyboard: File,
    program: File,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    pub fn open() -> Terminal {
        let keyboard =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("open a pty");
        unlockpt(&keyboard).expect("unlock it");
        let name = ptsname(&keyboard, Vec::new()).expect("its name").into_string().expect("in ASCII");
        let program = OpenOptions::new().read(true).write(true).open(name).expect("open its other end");
        let keyboard = File::from(keyboard);
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut screen, into) = (keyboard.try_clone().expect("copy"), shown.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut buffer) {
                into.lock().expect("no panic while held").extend_from_slice(&buffer[..count]);
            }
        });
        Terminal { keyboard, program, shown }
    }

    /// Starts a program in a session of its own, of which this is the controlling terminal.
    pub fn start(&self, mut program: Command) -> Child {
        let end = || self.program.try_clone().expect("copy");
        program.stdin(end()).stdout(end()).stderr(end()).spawn().expect("start the program")
    }

    /// `setsid --ctty PROGRAM`: a child is no group leader, so setsid(1) becomes PROGRAM, with its pid.
    pub fn session(program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(program);
        command
    }

    pub fn type_in(&self, keys: &[u8]) {
        (&self.keyboard).write_all(keys).expect("type");
    }

    /// Keys go to the program as they are, Ctrl-C among them.
    pub fn is_raw(&self) -> bool {
        let modes = tcgetattr(&self.program).expect("terminal modes").local_modes;
        !modes.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    /// All that it has shown.
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().expect("no panic while held")).into_owned()
    }

    /// Waits until it has shown `text`.
    #[track_caller]
    pub fn until_shows(&self, text: &str) {
        self.until(&format!("{text:?} on the screen"), || self.screen().contains(text));
    }

    /// Waits until `what`.
    #[track_caller]
    pub fn until(&self, what: &str, mut happened: impl FnMut() -> bool) {
        let began = Instant::now();
        while !happened() {
            assert!(began.elapsed() < patience(), "never: {what}; the screen:\n{}", self.screen());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The exit status of a program that ends now.
    #[track_caller]
    pub fn status(&self, child: &mut Child) -> Option<i32> {
        let mut status = None;
        self.until("the program has ended", || {
            status = child.try_wait().expect("wait for it");
            status.is_some()
        });
        status.and_then(|status| status.code())
    }
}
