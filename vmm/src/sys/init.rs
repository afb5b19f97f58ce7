//! What only process 1 asks of its kernel.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::checked;

/// Mounts a file system that needs no device.
pub fn mount(target: &CStr, kind: &CStr) -> io::Result<()> {
    // SAFETY: three strings that end in NUL and outlive the call; no data.
    let result = unsafe {
        libc::mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), libc::MS_NOSUID, std::ptr::null())
    };
    checked(result.into()).map(drop)
}

/// Mounts what is on a block device, to be read alone.
pub fn mount_disk(device: &CStr, target: &CStr, kind: &CStr) -> io::Result<()> {
    // SAFETY: three strings that end in NUL and outlive the call; no data.
    let result = unsafe {
        libc::mount(device.as_ptr(), target.as_ptr(), kind.as_ptr(), libc::MS_RDONLY, std::ptr::null())
    };
    checked(result.into()).map(drop)
}

/// finit_module(2), without parameters. `compressed`: the kernel is to unpack the file first.
pub fn load_module(file: &File, compressed: bool, parameters: &CStr) -> io::Result<()> {
    // uapi/linux/module.h: MODULE_INIT_COMPRESSED_FILE.
    let flags: libc::c_int = if compressed { 4 } else { 0 };
    // SAFETY: an open file, a string that ends in NUL, and a number.
    let result =
        unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), parameters.as_ptr(), flags) };
    checked(result).map(drop)
}

/// Standard input, output and error become this file.
pub fn stand_on(file: File) -> io::Result<()> {
    for standard in 0..3 {
        // SAFETY: takes two numbers; nothing of this program owns 0, 1 or 2.
        checked(unsafe { libc::dup2(file.as_raw_fd(), standard) }.into())?;
    }
    Ok(())
}

/// Bytes that were written to standard output, a terminal, and have not been sent (tty_ioctl(4), TIOCOUTQ).
pub fn unsent() -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the request writes one integer, which is alive.
    checked(unsafe { libc::ioctl(1, libc::TIOCOUTQ as _, &mut bytes) }.into())?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// How a whole machine ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reboot {
    PowerOff,
    Restart,
}

/// reboot(2); returns only where the kernel refuses.
pub fn reboot(how: Reboot) -> io::Error {
    let how = match how {
        Reboot::PowerOff => libc::RB_POWER_OFF,
        Reboot::Restart => libc::RB_AUTOBOOT,
    };
    // SAFETY: takes a number.
    unsafe { libc::reboot(how) };
    io::Error::last_os_error()
}

/// Lets `command` lead a session of its own, with its standard input as controlling terminal, so
/// that it has job control and Ctrl-C.
pub fn lead_session(command: &mut Command) {
    // SAFETY: between fork and exec the closure calls two functions that are safe there
    // (signal-safety(7)), and touches no memory of this process.
    unsafe {
        command.pre_exec(|| {
            checked(libc::setsid().into())?;
            checked(libc::ioctl(0, libc::TIOCSCTTY as _, 0).into()).map(drop)
        });
    }
}

/// Waits for the end of any child, adopted ones included: its number, and its status as a shell
/// tells it (128 and the signal's number for one that was killed).
pub fn reap() -> io::Result<(u32, i32)> {
    let mut status = 0;
    // SAFETY: the status is written to a live integer.
    let child = checked(unsafe { libc::waitpid(-1, &mut status, 0) }.into())?;
    let status = match libc::WIFEXITED(status) {
        true => libc::WEXITSTATUS(status),
        false => 128 + libc::WTERMSIG(status),
    };
    Ok((child as u32, status))
}
