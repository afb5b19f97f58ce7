//! How often the threads of this process left their CPUs (getrusage(2)).

use std::mem;

/// Context switches so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switches {
    /// To wait for something.
    pub slept: u64,
    /// For somebody else to run.
    pub preempted: u64,
}

pub fn switches() -> Switches {
    // SAFETY: numbers only, for which all zeroes is a value.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    // SAFETY: the structure is live; RUSAGE_SELF cannot fail.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
    Switches { slept: usage.ru_nvcsw as u64, preempted: usage.ru_nivcsw as u64 }
}
