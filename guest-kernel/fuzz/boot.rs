//! What a loader says about the machine.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| guest_kernel::fuzz::boot(data));
