//! Signals as file descriptors (signalfd(2)).

use std::fs::File;
use std::io::{self, Read};
use std::mem::{offset_of, size_of, zeroed};
use std::os::fd::FromRawFd;
use std::ptr;

/// Blocks `signals` in this thread and those that it starts, and makes a non-blocking file of them.
/// Signals that the parent process had ignored (`nohup`) are left alone.
pub fn take(signals: &[libc::c_int]) -> io::Result<File> {
    // SAFETY: sigset_t is plain data, for which all zeroes is valid.
    let mut set: libc::sigset_t = unsafe { zeroed() };
    // SAFETY: `set` outlives the call.
    unsafe { libc::sigemptyset(&mut set) };
    for &signal in signals {
        if !is_ignored(signal) {
            // SAFETY: `set` is initialized and outlives the call.
            unsafe { libc::sigaddset(&mut set, signal) };
        }
    }
    // SAFETY: `set` is initialized; the old mask isn't wanted.
    let error = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, ptr::null_mut()) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    // SAFETY: `set` is initialized; the result is checked.
    let fd = unsafe { libc::signalfd(-1, &set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { File::from_raw_fd(fd) })
}

fn is_ignored(signal: libc::c_int) -> bool {
    // SAFETY: sigaction is plain data, for which all zeroes is valid.
    let mut action: libc::sigaction = unsafe { zeroed() };
    // SAFETY: `action` outlives the call, and nothing is changed.
    let known = unsafe { libc::sigaction(signal, ptr::null(), &mut action) } == 0;
    known && action.sa_sigaction == libc::SIG_IGN
}

/// Blocks the signals that are sent to a process in this thread: they are for others. What is sent to a
/// thread (a kick, of a real-time signal) or raised by it (a fault) still comes.
pub fn hold_off() {
    // SAFETY: sigset_t is plain data, for which all zeroes is valid.
    let mut set: libc::sigset_t = unsafe { zeroed() };
    // SAFETY: `set` outlives the calls; the old mask isn't wanted.
    unsafe {
        libc::sigemptyset(&mut set);
        for signal in 1..libc::SIGRTMIN() {
            if !FAULTS.contains(&signal) {
                libc::sigaddset(&mut set, signal);
            }
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, ptr::null_mut());
    }
}

/// What a thread raises by itself: blocked, it would be killed without its handler (signal(7)).
const FAULTS: [libc::c_int; 6] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGSYS];

/// The next signal of a file that [`take`] made; `None` where none waits.
pub fn next(mut signals: &File) -> Option<libc::c_int> {
    const NUMBER: usize = offset_of!(libc::signalfd_siginfo, ssi_signo);
    let mut record = [0; size_of::<libc::signalfd_siginfo>()];
    signals.read_exact(&mut record).ok()?;
    let number = record.get(NUMBER..NUMBER + 4)?.try_into().ok()?;
    libc::c_int::try_from(u32::from_ne_bytes(number)).ok()
}

/// Stops this process until it is continued, as a shell's Ctrl-Z does.
pub fn stop() {
    // SAFETY: SIGSTOP has no handler to run; it takes effect before the call returns.
    unsafe { libc::raise(libc::SIGSTOP) };
}
