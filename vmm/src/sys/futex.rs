//! futex(2) between threads of this process.

use std::ptr;
use std::sync::atomic::AtomicU32;

/// Sleeps while `word` holds `value`; may return early.
pub fn wait(word: &AtomicU32, value: u32) {
    let deed = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the word lives for the call, and is only read; no timeout.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), deed, value, ptr::null::<libc::timespec>()) };
}

/// Wakes up to `threads` that wait on `word`.
pub fn wake(word: &AtomicU32, threads: u32) {
    let deed = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    let most = threads.min(i32::MAX as u32);
    // SAFETY: the word's address is a key here, nothing is read or written.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), deed, most) };
}
