//! CPU time of children that have been waited for (getrusage(2)).
#![allow(unsafe_code)]

use std::mem::zeroed;

/// In milliseconds, grandchildren included.
pub fn children_ms() -> f64 {
    // SAFETY: numbers only, for which all zeroes is a value.
    let mut usage: libc::rusage = unsafe { zeroed() };
    // SAFETY: the structure is live; with this argument the call cannot fail.
    unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage) };
    let ms = |time: libc::timeval| time.tv_sec as f64 * 1e3 + time.tv_usec as f64 / 1e3;
    ms(usage.ru_utime) + ms(usage.ru_stime)
}
