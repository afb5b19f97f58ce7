//! What a process may have (setrlimit(2)).

/// Allows `count` open files, or as many as this process may ask for.
pub fn allow_files(count: u64) {
    allow(libc::RLIMIT_NOFILE as _, count);
}

/// Allows to lock any memory, or as much as this process may ask for: root can without its capabilities then.
pub fn allow_locked_memory() {
    allow(libc::RLIMIT_MEMLOCK as _, libc::RLIM_INFINITY);
}

fn allow(what: libc::c_int, count: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure is live.
    let known = unsafe { libc::getrlimit(what as _, &mut limit) } == 0;
    if !known || limit.rlim_cur >= count {
        return;
    }
    let privileged = libc::rlimit { rlim_cur: count, rlim_max: limit.rlim_max.max(count) };
    let own = libc::rlimit { rlim_cur: count.min(limit.rlim_max), ..limit };
    for limit in [privileged, own] {
        // SAFETY: the structure is live. Where it is refused, whoever wants more will say so.
        if unsafe { libc::setrlimit(what as _, &limit) } == 0 {
            return;
        }
    }
}

/// Bytes of address space; `None`: no limit.
pub fn address_space() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the structure is live; where nothing is known, it says that there is no limit.
    unsafe { libc::getrlimit(libc::RLIMIT_AS, &mut limit) };
    (limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}
