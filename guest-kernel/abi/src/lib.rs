//! The words that host and guest share.
//!
//! No unsafe, no dependencies, no allocation: the monitor, the built-in guest kernel and the
//! built-in init of a Linux guest all read this file, so they print and mean the same.
//!
//! - [`port`]      where a guest speaks to the monitor
//! - [`boot_info`] what the built-in kernel is told, and how it is entered
//! - [`mark`]      what it says there: how far it has come
//! - [`workload`]  what it can be asked to run: names, keys, defaults, validity
//! - [`tour`]      what is run where nobody asked for anything
//! - [`record`]    what came of it: one line of text for each result
//! - [`histogram`] how long things took, in a fixed size
#![no_std]
#![forbid(unsafe_code)]

pub mod boot_info;
pub mod histogram;
pub mod mark;
pub mod port;
pub mod record;
pub mod tour;
pub mod workload;
