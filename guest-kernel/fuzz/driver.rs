//! A device that lies.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| guest_kernel::fuzz::driver(data));
