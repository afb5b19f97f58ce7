//! The kernel's vhost serves a queue: kicks and interrupts pass between KVM and vhost, and this process
//! sees neither.

pub mod net;
