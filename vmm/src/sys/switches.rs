//! How often threads left their CPUs (getrusage(2)).

use std::mem;

/// Context switches so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Switches {
    /// To wait for something.
    pub slept: u64,
    /// For somebody else to run.
    pub preempted: u64,
}

/// Of all threads of this process.
pub fn switches() -> Switches {
    of(libc::RUSAGE_SELF)
}

/// Of the calling thread.
pub fn thread_switches() -> Switches {
    of(libc::RUSAGE_THREAD)
}

fn of(whom: libc::c_int) -> Switches {
    // SAFETY: numbers only, for which all zeroes is a value.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    // SAFETY: the structure is live; with these two the call cannot fail.
    unsafe { libc::getrusage(whom, &mut usage) };
    Switches { slept: usage.ru_nvcsw as u64, preempted: usage.ru_nivcsw as u64 }
}
