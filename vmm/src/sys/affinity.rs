//! Which CPUs a thread may use, as lists of numbers (sched_setaffinity(2)), and before whom (sched(7)).

use std::io;
use std::mem;

use super::checked;

/// The CPUs of the calling thread, in ascending order.
pub fn allowed() -> Vec<usize> {
    allowed_of(0)
}

/// The CPUs of a thread, by its number in this system (0: the calling one); none if it has ended.
pub fn allowed_of(thread: libc::pid_t) -> Vec<usize> {
    // SAFETY: a set of bits, for which all zeroes is a value.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the set is live and its size is given.
    unsafe { libc::sched_getaffinity(thread, size_of_val(&set), &mut set) };
    // SAFETY: the index lies inside the set.
    (0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect()
}

/// Keeps the calling thread on one CPU.
pub fn pin(cpu: usize) -> io::Result<()> {
    allow(0, &[cpu])
}

/// Keeps a thread, by its number in this system (0: the calling one), on these CPUs.
pub fn allow(thread: libc::pid_t, cpus: &[usize]) -> io::Result<()> {
    if cpus.iter().any(|cpu| *cpu >= libc::CPU_SETSIZE as usize) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: a set of bits, for which all zeroes is a value; every index lies inside the set.
    let set = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        cpus.iter().for_each(|cpu| libc::CPU_SET(*cpu, &mut set));
        set
    };
    // SAFETY: the set is live and its size is given.
    checked(unsafe { libc::sched_setaffinity(thread, size_of_val(&set), &set) }.into()).map(drop)
}

/// The calling thread runs only where no other would.
pub fn only_when_idle() -> io::Result<()> {
    // `struct sched_param`, as the kernel has it: the priority, which this class doesn't have.
    let parameters: libc::c_int = 0;
    // SAFETY: the structure is live. The system call itself: musl's function of this name only fails.
    let result =
        unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, libc::SCHED_IDLE, &raw const parameters) };
    checked(result).map(drop)
}
