//! How much memory this host has (sysinfo(2)).

use std::mem;

/// RAM and swap in all, in bytes.
pub fn ram_and_swap() -> u64 {
    // SAFETY: numbers only, for which all zeroes is a value.
    let mut info: libc::sysinfo = unsafe { mem::zeroed() };
    // SAFETY: the structure is live; the call cannot fail.
    unsafe { libc::sysinfo(&mut info) };
    info.totalram.saturating_add(info.totalswap).saturating_mul(info.mem_unit.into())
}
