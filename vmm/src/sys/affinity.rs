//! Which CPUs a thread may use, as lists of numbers (sched_setaffinity(2)), and before whom (sched(7)).

use std::fs;
use std::io;
use std::mem;
use std::os::unix::thread::JoinHandleExt;
use std::thread::JoinHandle;

use super::checked;

/// The number of the calling thread in this system.
pub fn thread() -> libc::pid_t {
    super::thread_id()
}

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
    let set = set_of(cpus)?;
    // SAFETY: the set is live and its size is given.
    checked(unsafe { libc::sched_setaffinity(thread, size_of_val(&set), &set) }.into()).map(drop)
}

/// Puts a thread that has just been started on another CPU than the calling thread's, where one seems to be
/// idle; from then on it goes wherever it may. A host that is a guest itself takes its idle CPUs for such as
/// its own host has taken away (Linux: `vcpu_is_preempted`), and leaves new threads where they are made.
pub fn apart<T>(thread: &JoinHandle<T>) {
    let all = allowed();
    let ready = fs::read_to_string("/proc/loadavg").ok().as_deref().and_then(parse_ready);
    if ready.is_none_or(|ready| ready > all.len()) {
        return;
    }
    // SAFETY: no arguments.
    let here = unsafe { libc::sched_getcpu() };
    let others: Vec<usize> = all.iter().copied().filter(|cpu| usize::try_from(here) != Ok(*cpu)).collect();
    if others.is_empty() {
        return;
    }
    for cpus in [others, all] {
        let Ok(set) = set_of(&cpus) else { return };
        // SAFETY: the thread has not been joined; the set is live and its size is given. Refused, it stays
        // where it is.
        unsafe {
            libc::pthread_setaffinity_np(thread.as_pthread_t() as libc::pthread_t, size_of_val(&set), &set)
        };
    }
}

/// Threads of this host that run or could (proc(5), /proc/loadavg: the fourth field, before the slash).
fn parse_ready(loadavg: &str) -> Option<usize> {
    loadavg.split_whitespace().nth(3)?.split('/').next()?.parse().ok()
}

fn set_of(cpus: &[usize]) -> io::Result<libc::cpu_set_t> {
    if cpus.iter().any(|cpu| *cpu >= libc::CPU_SETSIZE as usize) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: a set of bits, for which all zeroes is a value; every index lies inside the set.
    Ok(unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        cpus.iter().for_each(|cpu| libc::CPU_SET(*cpu, &mut set));
        set
    })
}

/// The calling thread runs only where no other would.
pub fn only_when_idle() -> io::Result<()> {
    schedule(libc::SCHED_IDLE, 0)
}

/// The calling thread runs before all without a priority, and those of a lower one (1 to 99).
pub fn before_others(priority: u8) -> io::Result<()> {
    schedule(libc::SCHED_FIFO, priority.into())
}

/// The calling thread takes its turn, as everyone does.
pub fn in_turn() -> io::Result<()> {
    schedule(libc::SCHED_OTHER, 0)
}

fn schedule(class: libc::c_int, priority: libc::c_int) -> io::Result<()> {
    // SAFETY: the last is `struct sched_param`, as the kernel has it: the priority; it is live. The system
    // call itself: musl's function of this name only fails.
    let result = unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, class, &raw const priority) };
    checked(result).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_apart_may_still_go_anywhere() {
        let thread = std::thread::spawn(|| {
            std::thread::park();
            allowed()
        });
        apart(&thread);
        thread.thread().unpark();
        assert_eq!(thread.join().unwrap(), allowed());
    }

    #[test]
    fn threads_that_are_ready_are_read() {
        assert_eq!(parse_ready("0.20 0.18 0.12 1/80 11206\n"), Some(1));
        assert_eq!(parse_ready("0.20 0.18"), None);
    }
}
