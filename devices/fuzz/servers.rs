//! What a driver does while its device serves.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| devices::fuzz::servers(data));
