//! Ports, from either ring: the task state's bitmap allows all below 0x1000.

use core::arch::asm;

/// Bytes to one port: one instruction, which a monitor sees as one exit.
pub fn write(port: u16, bytes: &[u8]) {
    // SAFETY: reads `bytes` and no further; a port write changes no memory of ours.
    unsafe {
        asm!("rep outsb", in("dx") port, inout("rsi") bytes.as_ptr() => _, inout("rcx") bytes.len() => _,
             options(nostack, readonly, preserves_flags))
    };
}

/// Text to one port, four bytes at a time: KVM hands a `rep outsb` over byte by byte.
pub fn write_text(port: u16, text: &[u8]) {
    let (words, rest) = text.as_chunks();
    words.iter().for_each(|word| write_u32(port, u32::from_le_bytes(*word)));
    write(port, rest);
}

/// 16 bits to a port.
pub fn write_u16(port: u16, value: u16) {
    // SAFETY: a port write changes no memory of ours.
    unsafe { asm!("out dx, ax", in("dx") port, in("ax") value, options(nomem, nostack, preserves_flags)) };
}

/// 32 bits to a port.
pub fn write_u32(port: u16, value: u32) {
    // SAFETY: a port write changes no memory of ours.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nomem, nostack, preserves_flags)) };
}

/// A byte from a port.
pub fn read(port: u16) -> u8 {
    let value;
    // SAFETY: a port read changes no memory of ours.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags)) };
    value
}
