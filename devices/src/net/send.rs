//! Frames from the guest's buffers straight into the tap.

use std::fs::File;
use std::os::fd::AsFd;
use std::time::Instant;

use super::{HEADER, SEND};
use crate::sys::file::write_some;
use crate::virtio::chain::Chain;
use crate::virtio::queue::{ChainHandler, Served};
use crate::virtio::tally::Tally;

/// A send queue's end of the wire.
pub struct Send<'a> {
    pub tap: &'a File,
    pub tally: &'a mut Tally,
    /// When the last frame was done, which is when the next one was taken: one look at the clock for each.
    pub since: Option<Instant>,
}

impl ChainHandler for Send<'_> {
    fn handle(&mut self, _: u16, chain: &mut Chain) -> Served {
        let since = self.since.unwrap_or_else(Instant::now);
        let len = chain.readable.len();
        // The header is the tap's too: it checks it, and refuses what makes no sense. A wire has no
        // way to say that a frame was lost, so the driver is not told.
        let sent = len > HEADER && write_some(self.tap.as_fd(), &chain.readable).is_ok();
        let payload = if sent { (len - HEADER) as u64 } else { 0 };
        let now = Instant::now();
        self.tally.record(SEND, payload, !sent, now - since);
        self.since = Some(now);
        if sent { Served::Done { written: 0, payload } } else { Served::Failed { written: 0 } }
    }
}
