//! What the host, a user, an earlier run or a guest has written.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vmm::fuzz::texts(data));
