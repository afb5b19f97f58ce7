//! Another process serves a queue: guest memory, kicks and interrupts are shared with it over a Unix
//! socket (QEMU, docs/interop/vhost-user.rst).
//!
//! - [`message`]  the words: encoded and decoded, pure
//! - [`channel`]  messages over a socket, with the file descriptors that ride along
//! - [`session`]  a front end's connection, and what was agreed on it
//! - [`rings`]    a driver's rings, as peer after peer is told of them
//! - [`frontend`] the backend of a device of ours: a peer, or the wait for one
//! - [`blk`], [`net`]  such devices
//! - [`backend`]  the serving end of a connection: what a front end may do, and in which order

pub mod backend;
pub mod blk;
pub mod channel;
pub mod frontend;
pub mod message;
pub mod net;
pub mod rings;
pub mod session;
