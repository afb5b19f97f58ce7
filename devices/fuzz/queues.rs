//! Requests, and the rings that they are in.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| devices::fuzz::queues(data));
