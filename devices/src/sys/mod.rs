//! The only raw system calls and raw pointers of this crate. Each file gives safe types to the rest.
//!
//! - [`window`]    a fixed piece of guest memory: bounds-checked, volatile or atomic
//! - [`peer`]      memory that another process shares by its fds
//! - [`sigbus`]    … and may take away while it is in use
//! - [`event`]     event fds that another process has made
//! - [`bell`]      … written to without ever waiting for it
//! - [`copy`]      short copies between such memories
//! - [`segments`]  scattered guest memory: one buffer of a descriptor chain
//! - [`bounce`]    an aligned buffer, where the guest's is not
//! - [`uring`]     many vectored transfers at once, each owning its [`segments`] while in flight
//! - [`tap`]       a host network interface whose frames come and go by a file
//! - [`link`]      that a host network interface has changed
//! - [`vhost`]     /dev/vhost-net
//! - [`socket`]    bytes and file descriptors over a Unix socket
//! - [`turns`]     how a thread gets on with others on its CPU
//! - [`file`]      vectored input and output between a file and [`segments`], locks
//! - [`block`]     block devices
#![allow(unsafe_code)]

pub mod bell;
pub mod block;
pub mod bounce;
pub mod copy;
pub mod event;
pub mod file;
pub mod link;
pub mod peer;
pub mod segments;
pub mod sigbus;
pub mod socket;
pub mod tap;
#[cfg(test)]
mod translation;
pub mod turns;
pub mod uring;
pub mod vhost;
pub mod window;

use std::sync::Arc;

use vm_memory::GuestMemoryMmap;

/// Guest memory as devices share it: mapped for as long as anyone holds it.
pub type Memory = Arc<GuestMemoryMmap<()>>;
