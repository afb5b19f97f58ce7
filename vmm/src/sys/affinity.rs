//! Which CPUs a thread may use, as lists of numbers (sched_setaffinity(2)).

use std::io;
use std::mem;

use super::checked;

/// The CPUs of the calling thread, in ascending order.
pub fn allowed() -> Vec<usize> {
    // SAFETY: a set of bits, for which all zeroes is a value.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the set is live and its size is given.
    unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) };
    // SAFETY: the index lies inside the set.
    (0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect()
}

/// Keeps the calling thread on one CPU.
pub fn pin(cpu: usize) -> io::Result<()> {
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: a set of bits, for which all zeroes is a value; the index lies inside the set.
    let set = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        set
    };
    // SAFETY: the set is live and its size is given.
    checked(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) }.into()).map(drop)
}
