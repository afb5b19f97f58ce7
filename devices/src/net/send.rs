//! Frames from the guest's buffers straight into the tap.

use std::fs::File;
use std::os::fd::AsFd;

use super::HEADER;
use crate::sys::file::write_some;
use crate::virtio::chain::Chain;
use crate::virtio::queue::{ChainHandler, Served};

/// A send queue's end of the wire.
pub struct Send<'a>(pub &'a File);

impl ChainHandler for Send<'_> {
    fn handle(&mut self, _: u16, chain: &mut Chain) -> Served {
        let len = chain.readable.len();
        if len <= HEADER {
            return Served::Failed { written: 0 };
        }
        // The header is the tap's too: it checks it, and refuses what makes no sense. A wire has no
        // way to say that a frame was lost, so the driver is not told.
        match write_some(self.0.as_fd(), &chain.readable) {
            Ok(_) => Served::Done { written: 0, payload: (len - HEADER) as u64 },
            Err(_) => Served::Failed { written: 0 },
        }
    }
}
