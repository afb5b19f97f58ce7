//! Processes that this one has started.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use super::checked;

/// The process ends, by SIGTERM, with the thread that starts it, whatever ended that.
pub fn ends_with_us(command: &mut Command) -> &mut Command {
    let ask = || {
        // SAFETY: no memory is involved.
        checked(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) }.into()).map(drop)
    };
    // SAFETY: prctl is a bare system call, allowed between fork and exec.
    unsafe { command.pre_exec(ask) }
}

/// Asks a process to end in its own way. It has not been waited for, so its number is its own.
pub fn ask_to_end(child: &Child) -> io::Result<()> {
    // SAFETY: no memory is involved.
    checked(unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGTERM) }.into()).map(drop)
}

/// Ends a process that leads a group, and all of that group. It has not been waited for.
pub fn end_group(child: &Child) -> io::Result<()> {
    // SAFETY: no memory is involved.
    checked(unsafe { libc::kill(-(child.id() as libc::pid_t), libc::SIGKILL) }.into()).map(drop)
}
