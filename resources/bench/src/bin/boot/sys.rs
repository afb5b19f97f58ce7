//! The one thing that has no safe wrapper: a port write by a process.
#![allow(unsafe_code)]

use std::arch::asm;
use std::io;

/// Writes `value` to `port`, which needs CAP_SYS_RAWIO.
pub fn out8(port: u16, value: u8) -> io::Result<()> {
    // SAFETY: changes which ports this thread may use, no memory.
    if unsafe { libc::ioperm(port.into(), 1, 1) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the port is open to this thread; the instruction touches no memory, stack or flags.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags)) };
    Ok(())
}
