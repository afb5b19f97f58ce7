//! CLOCK_MONOTONIC in nanoseconds.

use std::ptr;

const SECOND: u64 = 1_000_000_000;

/// Now.
pub fn now_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is live; the clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * SECOND + now.tv_nsec as u64
}

/// Returns at or after `deadline`.
pub fn sleep_until_ns(deadline: u64) {
    let then = libc::timespec { tv_sec: (deadline / SECOND) as _, tv_nsec: (deadline % SECOND) as _ };
    while now_ns() < deadline {
        // SAFETY: the structure is live; nothing is wanted of the rest.
        unsafe {
            libc::clock_nanosleep(libc::CLOCK_MONOTONIC, libc::TIMER_ABSTIME, &then, ptr::null_mut());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleep_never_ends_early() {
        let deadline = now_ns() + 2_000_000;
        sleep_until_ns(deadline);
        assert!(now_ns() >= deadline);
        sleep_until_ns(0);
    }
}
