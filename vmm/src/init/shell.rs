//! A shell on the console, with job control.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use super::plan::BUSYBOX;
use super::{MAX_STATUS, mount_all};
use crate::sys::init::{lead_session, reap};

/// The shell's status; one above 63, as of a command that a signal killed, becomes 63.
pub fn run() -> io::Result<u8> {
    mount_all()?;
    // Commands by their own names, for builds of busybox whose shell doesn't look at itself first.
    Command::new(BUSYBOX).args(["--install", "-s", "/bin"]).status()?;
    let terminal = File::options().read(true).write(true).open(terminal()?)?;
    let mut shell = Command::new(BUSYBOX);
    shell.arg0("-sh").env_clear().env("PATH", "/bin").env("HOME", "/").env("TERM", "linux");
    shell.stdin(terminal.try_clone()?).stdout(terminal.try_clone()?).stderr(Stdio::from(terminal));
    lead_session(&mut shell);
    let shell = shell.spawn()?.id();
    // Process 1 inherits orphans; they are reaped on the way.
    loop {
        let (child, status) = reap()?;
        if child == shell {
            return Ok(status.clamp(0, MAX_STATUS.into()) as u8);
        }
    }
}

/// /dev/console can't control a session; the terminal behind it can.
fn terminal() -> io::Result<String> {
    let active = fs::read_to_string("/sys/class/tty/console/active")?;
    let last = active.split_whitespace().last();
    let last = last.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "this machine has no console"))?;
    Ok(format!("/dev/{last}"))
}
