//! What arrives from the network.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| guest_kernel::fuzz::frames(data));
