//! kvmclock, where KVM is below and nobody says how fast the time stamp counter runs. It is asked once:
//! the counter is the clock.

use core::ptr;

use super::gate;
use crate::clock;

/// Leaves of the hypervisor: its name, and what it can do (KVM's cpuid.rst).
const NAME: u32 = 0x4000_0000;
const FEATURES: u32 = 0x4000_0001;
const CLOCK_SOURCE_2: u32 = 1 << 3;
/// MSR_KVM_SYSTEM_TIME_NEW: address, and bit 0 turns it on.
const SYSTEM_TIME: u32 = 0x4b56_4d01;

/// `struct pvclock_vcpu_time_info`, which KVM fills.
#[repr(C, align(64))]
struct Time {
    version: u32,
    pad: u32,
    timestamp: u64,
    nanoseconds: u64,
    multiplier: u32,
    shift: i8,
    flags: u8,
    rest: [u8; 2],
}

/// The counter's frequency, where there is a kvmclock.
pub fn khz() -> Option<u32> {
    let name = gate::cpuid(NAME);
    if [name.ebx, name.ecx, name.edx].map(u32::to_le_bytes) != [*b"KVMK", *b"VMKV", *b"M\0\0\0"]
        || gate::cpuid(FEATURES).eax & CLOCK_SOURCE_2 == 0
    {
        return None;
    }
    let mut time = Time {
        version: 0,
        pad: 0,
        timestamp: 0,
        nanoseconds: 0,
        multiplier: 0,
        shift: 0,
        flags: 0,
        rest: [0; 2],
    };
    let at = &raw mut time;
    // SAFETY: KVM writes to this variable alone, until it is told to stop, while it lives.
    unsafe { gate::wrmsr(SYSTEM_TIME, at as u64 | 1) };
    // SAFETY: filled on the way back into the guest, as the counter of this CPU is that of all.
    let (multiplier, shift) = unsafe {
        (ptr::read_volatile(&raw const (*at).multiplier), ptr::read_volatile(&raw const (*at).shift))
    };
    // SAFETY: turns it off.
    unsafe { gate::wrmsr(SYSTEM_TIME, 0) };
    Some(clock::khz(multiplier, shift)).filter(|khz| *khz > 0)
}
