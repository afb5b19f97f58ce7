//! How a thread gets on with others on its CPU: whether it was made to leave it, and how it leaves it for a
//! moment.

use std::io;
use std::time::Duration;

/// Sleeps of the calling thread end when they are due, not up to 50 µs later (`PR_SET_TIMERSLACK`).
pub fn wake_on_time() -> io::Result<()> {
    // SAFETY: by value only.
    match unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// How often the calling thread had to leave its CPU to another thread (getrusage(2)).
pub fn lost() -> i64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the structure is live, and valid as zeroes where the call fails.
    unsafe {
        libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr());
        usage.assume_init().ru_nivcsw
    }
}

/// Leaves the CPU to others for a moment.
pub fn nap(time: Duration) {
    std::thread::sleep(time);
}
