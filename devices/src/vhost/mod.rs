//! The kernel's vhost serves a queue: kicks and interrupts pass between KVM and vhost, and this process
//! sees neither (but for those interrupts that [`sent`] holds back).
//!
//! - [`busy`]    how long its threads look before they sleep, where it pays
//! - [`net`]     network cards over a tap
//! - [`sent`]    the interrupt that says that frames were sent: mostly it need not be
//! - [`vsock`]   sockets between guest and host
//! - [`worker`]  the kernel's threads that do it

mod busy;
pub mod net;
mod sent;
pub mod vsock;
pub mod worker;
