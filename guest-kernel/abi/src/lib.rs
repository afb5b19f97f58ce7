//! The words that host and guest share.
//!
//! No unsafe, no dependencies, no allocation: the monitor, the built-in guest kernel and the
//! built-in init of a Linux guest all read this file, so they print and mean the same.
//!
//! - [`port`]  where a guest speaks to the monitor
//! - [`mark`]  what it says there: how far it has come
#![no_std]
#![forbid(unsafe_code)]

pub mod mark;
pub mod port;
