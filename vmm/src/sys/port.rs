//! I/O ports of the machine that this process is a guest of.

use std::arch::asm;
use std::io;

/// The right to use `len` ports from `base` on.
#[derive(Debug)]
pub struct Ports {
    base: u16,
    len: u16,
}

impl Ports {
    /// Asks the kernel for the ports (ioperm(2)); it refuses without CAP_SYS_RAWIO, or locked down.
    pub fn open(base: u16, len: u16) -> io::Result<Ports> {
        let (from, count) = (libc::c_ulong::from(base), libc::c_ulong::from(len));
        // SAFETY: ioperm takes numbers only; what the ports may do is the caller's business, as it
        // is for any device.
        match unsafe { libc::syscall(libc::SYS_ioperm, from, count, 1) } {
            0 => Ok(Ports { base, len }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Writes a byte.
    pub fn write_u8(&self, port: u16, value: u8) {
        if self.covers(port, 1) {
            // SAFETY: the kernel has granted the port; OUT touches no memory.
            unsafe {
                asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags));
            }
        }
    }

    /// Writes four bytes at once.
    pub fn write_u32(&self, port: u16, value: u32) {
        if self.covers(port, 4) {
            // SAFETY: the kernel has granted the ports; OUT touches no memory.
            unsafe {
                asm!("out dx, eax", in("dx") port, in("eax") value, options(nomem, nostack, preserves_flags));
            }
        }
    }

    /// Writes bytes, one after the other: one exit for all of them, or for as many as fit a page.
    pub fn write_bytes(&self, port: u16, bytes: &[u8]) {
        if self.covers(port, 1) {
            // SAFETY: the kernel has granted the port; OUTSB reads RCX bytes from RSI on, which are
            // `bytes`, upwards, for the ABI keeps the direction flag clear.
            unsafe {
                asm!(
                    "rep outsb",
                    in("dx") port,
                    inout("rsi") bytes.as_ptr() => _,
                    inout("rcx") bytes.len() => _,
                    options(readonly, nostack, preserves_flags),
                );
            }
        }
    }

    fn covers(&self, port: u16, len: u16) -> bool {
        port >= self.base && u32::from(port) + u32::from(len) <= u32::from(self.base) + u32::from(self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_granted_ports_are_touched() {
        let ports = Ports { base: 0x500, len: 0x10 };
        assert!(ports.covers(0x500, 4) && ports.covers(0x50c, 4) && ports.covers(0x50f, 1));
        assert!(!ports.covers(0x4ff, 1) && !ports.covers(0x50d, 4) && !ports.covers(0xffff, 4));
        // Nothing is granted here: these would end this process if they weren't refused.
        ports.write_u8(0x510, 0);
        ports.write_u32(0x50d, 0);
        ports.write_bytes(0x80, b"x");
    }
}
