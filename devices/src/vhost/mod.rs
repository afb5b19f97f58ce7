//! The kernel's vhost serves a queue: kicks and interrupts pass between KVM and vhost, and this process
//! sees neither.
//!
//! - [`net`]     network cards over a tap
//! - [`vsock`]   sockets between guest and host
//! - [`worker`]  the kernel's threads that do it

pub mod net;
pub mod vsock;
pub mod worker;
