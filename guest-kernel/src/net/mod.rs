//! The network: UDP over IPv4 and ARP, over one virtio card.
//!
//! ```text
//!   send:     header and payload into a buffer of this CPU's pool ─► its queue ─► one kick a batch
//!   receive:  its queue ─► which port? ─► that port's channel ─► checked and copied by who receives
//! ```
//!
//! A driver only sorts: by the destination port, into channels (Van Jacobson's); all that a protocol has
//! to do is done by the thread that receives, on its CPU. Each CPU has a queue pair and buffers of its
//! own, as far as the device has pairs.
//!
//! - [`frame`]      headers, read and written
//! - [`neighbours`] whose hardware address is known
//! - [`channel`]    what has arrived for a port
//! - [`pair`]       one receive and one send queue, with their buffers
//! - [`card`]       the device, from the first open port to the last
//! - [`port`]       an open UDP port
#[cfg(target_os = "none")]
pub mod card;
pub mod channel;
pub mod frame;
pub mod neighbours;
#[cfg(target_os = "none")]
mod pair;
#[cfg(target_os = "none")]
pub mod port;
