//! What a driver writes into its ring.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| devices::fuzz::ring(data));
