//! The smallest device: it fills what it is given.

use crate::virtio::backend::QueueBackend;
use crate::virtio::chain::Chain;
use crate::virtio::device::{Device, Kind};
use crate::virtio::queue::{ChainHandler, Served};
use crate::virtio::rate::Throttle;
use crate::virtio::userspace::{EachChain, Group, Tuning, Userspace};

/// Gives every chain back, full of ones.
pub struct Ones;

impl ChainHandler for Ones {
    fn handle(&mut self, _: u16, chain: &mut Chain) -> Served {
        let written = chain.writable.write(&[0xff; 64]) as u32;
        Served::Done { written, payload: written.into() }
    }
}

/// A device of two queues.
pub struct Toy(Userspace);

impl Toy {
    /// One of them.
    pub fn boxed() -> Box<Toy> {
        let group = Group { queues: vec![0, 1], server: Box::new(EachChain::new(Ones, Throttle::default())) };
        Box::new(Toy(Userspace::new("toy.0", u64::MAX, vec![group], Tuning::default())))
    }
}

impl Device for Toy {
    fn name(&self) -> &str {
        "toy.0"
    }
    fn kind(&self) -> Kind {
        Kind::RNG
    }
    fn features(&self) -> u64 {
        0
    }
    fn queue_sizes(&self) -> &[u16] {
        &[256, 64]
    }
    fn config(&self) -> &[u8] {
        &[1, 2, 3]
    }
    fn backend(&mut self) -> &mut dyn QueueBackend {
        &mut self.0
    }
}
