//! virtio-rng (virtio 1.2 §5.4): the host's random numbers.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::time::Instant;

use crate::sys::file::read_some;
use crate::virtio::backend::QueueBackend;
use crate::virtio::chain::Chain;
use crate::virtio::device::{Device, Kind};
use crate::virtio::front::OperationCounts;
use crate::virtio::queue::{ChainHandler, Served};
use crate::virtio::rate::Throttle;
use crate::virtio::tally::{Shared, Tally};
use crate::virtio::userspace::{EachChain, Group, Tuning, Userspace};

const QUEUE_SIZE: u16 = 16;
/// Bytes of one answer: what the kernel makes in well under a millisecond. A driver asks again (§5.4.6.1).
const MOST: usize = 16 << 10;

/// The device.
pub struct Rng {
    name: String,
    backend: Userspace,
    tally: Shared,
}

impl Rng {
    /// One that hands out what /dev/urandom does.
    pub fn open(name: &str, tuning: Tuning) -> io::Result<Rng> {
        let source = File::open("/dev/urandom")?;
        let shared = Shared::new(&["read"]);
        let handler = Source { file: source, tally: Tally::default(), shared: shared.clone() };
        let group = Group { queues: vec![0], server: Box::new(EachChain::new(handler, Throttle::default())) };
        let backend = Userspace::new(name, u64::MAX, vec![group], tuning);
        Ok(Rng { name: name.into(), backend, tally: shared })
    }
}

/// Fills what the driver offers.
struct Source {
    file: File,
    tally: Tally,
    shared: Shared,
}

impl ChainHandler for Source {
    fn handle(&mut self, _: u16, chain: &mut Chain) -> Served {
        let start = Instant::now();
        chain.writable.truncate(MOST);
        let filled = read_some(self.file.as_fd(), &chain.writable).unwrap_or(0);
        let failed = filled == 0;
        self.tally.record(0, filled as u64, failed, start.elapsed());
        let written = filled as u32;
        if failed { Served::Failed { written } } else { Served::Done { written, payload: filled as u64 } }
    }

    fn end(&mut self) {
        self.shared.hand_over(&mut self.tally);
    }
}

impl Device for Rng {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> Kind {
        Kind::RNG
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE_SIZE]
    }

    fn config(&self) -> &[u8] {
        &[]
    }

    fn backend(&mut self) -> &mut dyn QueueBackend {
        &mut self.backend
    }

    fn operations(&self) -> Vec<OperationCounts> {
        self.tally.counts()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::bringup::Rig;
    use crate::testing::hostile;
    use vm_memory::{Bytes, GuestAddress};

    fn rig() -> Rig {
        Rig::new(Box::new(Rng::open("rng.0", Tuning::default()).unwrap()), false)
    }

    /// Asks for `len` bytes; returns how many came, and the first of them.
    fn ask(rig: &mut Rig, len: u32) -> (u32, [u8; 32]) {
        rig.memory.write_slice(&[0; 32], GuestAddress(0x20_0000)).unwrap();
        let head = rig.drivers[0].chain(&[], &[(0x20_0000, len)]);
        rig.drivers[0].offer(head);
        rig.kick(0);
        let (used, written) = rig.wait(0);
        assert_eq!(used, head);
        (written, rig.memory.read_obj(GuestAddress(0x20_0000)).unwrap())
    }

    #[test]
    fn no_two_answers_are_alike_and_none_is_endless() {
        let mut rig = rig();
        rig.bring_up(16, 0);
        let (first, second) = (ask(&mut rig, 32), ask(&mut rig, 32));
        assert_eq!((first.0, second.0), (32, 32));
        assert!(first.1 != second.1 && first.1 != [0; 32]);
        assert_eq!(ask(&mut rig, 1 << 20).0, MOST as u32);
        assert_eq!(ask(&mut rig, 0).0, 0);
        rig.bus.lock().unwrap().quiesce();
        let row = rig.bus.lock().unwrap().counts()[0].operations.swap_remove(0);
        assert_eq!((row.name, row.count, row.bytes, row.errors), ("read", 4, 64 + MOST as u64, 1));
    }

    #[test]
    fn whatever_the_driver_does_it_serves_again() {
        hostile::play(rig(), |rig| assert_eq!(ask(rig, 32).0, 32));
    }
}
