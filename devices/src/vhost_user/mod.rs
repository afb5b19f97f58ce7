//! Another process serves a queue: guest memory, kicks and interrupts are shared with it over a Unix
//! socket (QEMU, docs/interop/vhost-user.rst).
//!
//! - [`message`]  the words: encoded and decoded, pure
//! - [`channel`]  messages over a socket, with the file descriptors that ride along

pub mod channel;
pub mod message;
