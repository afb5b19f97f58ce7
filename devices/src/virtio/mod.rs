//! Virtio 1.2: what a device is, how a driver brings it up, and who serves its queues.
//!
//! - [`status`]     the status register, a pure state machine
//! - [`device`]     what a device is
//! - [`front`]      what the driver sees of it, behind either transport
//! - [`transport`]  how the driver finds it: PCI or MMIO
//! - [`backend`]    the seam: who serves a queue
//! - [`userspace`]  … a thread of this process, by what its device tells it: [`server`]
//! - [`polling`]    … and how long it looks for more before it sleeps, by what a sleep takes ([`cost`]);
//!   [`crowd`]: on a CPU that others want, too
//! - [`queue`]      the one ring loop, over [`ring`] (the memory) and [`chain`] (one request)
//! - [`interrupt`]  how the guest is reached
//! - [`fault`]      DEVICE_NEEDS_RESET
//! - [`counters`]   what each queue did; [`tally`]: what its device did, and how long it took

pub mod backend;
pub mod beside;
pub mod chain;
pub mod cost;
pub mod counters;
pub mod crowd;
pub mod device;
pub mod fault;
pub mod front;
pub mod interrupt;
pub mod polling;
pub mod queue;
pub mod rate;
pub mod ring;
pub mod server;
pub mod status;
pub mod tally;
pub mod transport;
pub mod userspace;
