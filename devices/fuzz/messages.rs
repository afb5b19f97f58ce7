//! What a front end says.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| devices::fuzz::messages(data));
