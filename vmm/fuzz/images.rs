//! Kernels, modules, and what is packed in them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vmm::fuzz::images(data));
