//! What a backend answers.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| devices::fuzz::peer(data));
