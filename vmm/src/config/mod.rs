//! Flags as meant. What was typed lives in `cli`; a value of these types cannot be wrong any more.
//!
//! - [`boot`], [`vcpus`], [`memory`], [`pin`], [`cpu_limit`], [`idle`], [`pv`], [`console`], [`report`],
//!   [`timeout`]  one file per knob: how it is written, what is valid, what follows
//! - [`disk`], [`net`], [`vsock`]  devices, each written as [`keys`]; [`rate`]: how much they may do;
//!   [`virtio`]: how drivers reach them
//! - [`knobs`]  flag → the counter that proves it
//! - [`input`]  files that a user names
//! - [`word`]   one of a few words, and the nearest

pub mod boot;
pub mod console;
pub mod cpu_limit;
pub mod disk;
pub mod idle;
pub mod input;
pub mod keys;
pub mod knobs;
pub mod memory;
pub mod net;
pub mod pin;
pub mod pv;
pub mod rate;
pub mod report;
pub mod timeout;
pub mod vcpus;
pub mod virtio;
pub mod vsock;
pub mod word;

use std::time::Duration;

pub use boot::{Boot, Protocol};
pub use console::Console;
pub use disk::Disk;
pub use idle::Idle;
pub use knobs::{Asked, Knob};
pub use memory::{Backing, Memory};
pub use net::Net;
pub use pin::Pinning;
pub use pv::Pv;
pub use report::{Format, Report};
pub use virtio::{Transport, Virtio};
pub use vsock::Vsock;

/// One machine, every knob resolved.
#[derive(Clone, Debug)]
pub struct Config {
    pub boot: Boot,
    /// 1 to 255.
    pub vcpus: u8,
    pub memory: Memory,
    pub pin: Pinning,
    /// Percent of one CPU for all of its threads together; `None`: no limit.
    pub cpu_limit: Option<u32>,
    /// `None`: the host's own.
    pub halt_poll_ns: Option<u32>,
    pub idle: Idle,
    pub pv: Pv,
    pub disks: Vec<Disk>,
    pub nets: Vec<Net>,
    /// The host's random numbers.
    pub rng: bool,
    pub vsock: Option<Vsock>,
    pub virtio: Virtio,
    pub console: Console,
    pub reports: Vec<Report>,
    /// Whether rates are shown while it runs.
    pub live: bool,
    /// Whether exits are counted by the processor's reason.
    pub trace_exits: bool,
    pub timeout: Option<Duration>,
    /// Whether it gives up what it needs no more.
    pub sandbox: bool,
    pub verbose: bool,
    /// The knobs that the user set, as written, in the order of [`Knob::ALL`]:
    /// the report says of each what it got.
    pub asked: Vec<Asked>,
}

impl Config {
    /// Whether there is any virtio device.
    pub fn has_virtio(&self) -> bool {
        let devices = !self.disks.is_empty() || !self.nets.is_empty() || self.rng || self.vsock.is_some();
        devices || self.console.is_virtio()
    }
}
