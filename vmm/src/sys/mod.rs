//! The only raw system calls and raw memory of this crate. Everything here is small, and each
//! `unsafe` block says why it holds.
#![allow(unsafe_code)]

pub mod clock;
pub mod kvm_stats;
