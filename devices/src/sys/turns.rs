//! How a thread gets on with others on its CPU: how long it had it, whether it was made to leave it, and how it
//! leaves it for a moment.

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

/// CPU time that the calling thread has had (clock_gettime(2)).
pub fn spent() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is live, and as good as zero where the call fails.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// Leaves the CPU to others for a moment.
pub fn nap(time: Duration) {
    std::thread::sleep(time);
}
