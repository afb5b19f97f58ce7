//! Any access to any device.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| devices::fuzz::registers(data));
