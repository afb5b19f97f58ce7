//! What this process may do beyond others (capabilities(7), prctl(2)).

use std::io;
use std::mem::zeroed;

use super::checked;

/// By which files are reached whoever owns them.
pub const DAC_OVERRIDE: u32 = 1;

/// `_LINUX_CAPABILITY_VERSION_3`, and the calling thread.
const HEADER: [u32; 2] = [0x2008_0522, 0];
/// Effective, permitted and inheritable capabilities, of the lower 32 and of the others.
type Sets = [[u32; 3]; 2];

/// No program that this thread, or one that it starts, may run has more privileges than it.
pub fn no_new() -> io::Result<()> {
    // SAFETY: numbers only.
    checked(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into()).map(drop)
}

/// No other process of this user may look into this one's memory, and it leaves no core.
pub fn not_dumpable() -> io::Result<()> {
    // SAFETY: numbers only.
    checked(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) }.into()).map(drop)
}

/// The user whose files this process reaches.
pub fn user() -> u32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}

/// A bit of this thread's effective capabilities (capget(2)).
pub fn capable(capability: u32) -> bool {
    let mut header = HEADER;
    // SAFETY: numbers only, for which all zeroes is a value.
    let mut sets: Sets = unsafe { zeroed() };
    // SAFETY: both are live and as long as this version says.
    let known = unsafe { libc::syscall(libc::SYS_capget, header.as_mut_ptr(), sets.as_mut_ptr()) } == 0;
    known && sets[(capability / 32) as usize % 2][0] >> (capability % 32) & 1 != 0
}

/// The calling thread has no capabilities any more, but may take `kept`, of the lower 32, where it is told;
/// `used`: it has them in effect.
pub fn keep(kept: &[u32], used: bool) -> io::Result<()> {
    let mut header = HEADER;
    let bits = kept.iter().fold(0, |bits, capability| bits | 1 << capability);
    let mut sets: Sets = [[if used { bits } else { 0 }, bits, 0], [0; 3]];
    // SAFETY: both are live and as long as this version says.
    checked(unsafe { libc::syscall(libc::SYS_capset, header.as_mut_ptr(), sets.as_mut_ptr()) }).map(drop)
}
