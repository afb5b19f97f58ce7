//! The control queue (virtio 1.2 §5.1.6.5): how many queue pairs carry frames, which offloads the guest
//! takes, which frames it wants.

use std::io;

use virtio_bindings::virtio_net::*;

use super::face::Face;
use crate::virtio::chain::Chain;
use crate::virtio::queue::{ChainHandler, Served};

/// What the control queue controls.
pub trait Pairs: Send + Sync {
    /// How many there are.
    fn count(&self) -> u16;

    /// The first `pairs` carry frames, the others do not.
    fn attach(&self, pairs: u16) -> io::Result<()>;

    /// Frames for the guest may lack what it has said that it can do itself: GUEST_ feature bits.
    fn set_offload(&self, features: u64) -> io::Result<()>;
}

/// Bytes of the longest command that is understood: a table of several hundred addresses.
const LONGEST: usize = 4096;

/// Serves the control queue.
pub struct Control<'a> {
    pub pairs: &'a dyn Pairs,
    /// `None`: frames are another's, and nobody looks at their addresses.
    pub face: Option<&'a Face>,
    /// What was negotiated: only what was can be set.
    pub acked: u64,
}

impl ChainHandler for Control<'_> {
    fn handle(&mut self, _: u16, chain: &mut Chain) -> Served {
        let mut command = [0; 2];
        let mut data = [0; LONGEST];
        let ok = chain.readable.read(&mut command) == 2 && chain.readable.len() <= data.len() && {
            let len = chain.readable.read(&mut data);
            self.obey(command, &data[..len])
        };
        let answer = if ok { VIRTIO_NET_OK } else { VIRTIO_NET_ERR } as u8;
        let written = chain.writable.write(&[answer]) as u32;
        if ok { Served::Done { written, payload: 0 } } else { Served::Failed { written } }
    }
}

impl Control<'_> {
    fn obey(&self, [class, command]: [u8; 2], data: &[u8]) -> bool {
        let has = |bit: u32| self.acked & 1 << bit != 0;
        match (u32::from(class), u32::from(command), data) {
            (VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, &[low, high]) => {
                let pairs = u16::from_le_bytes([low, high]);
                has(VIRTIO_NET_F_MQ)
                    && (1..=self.pairs.count()).contains(&pairs)
                    && self.pairs.attach(pairs).is_ok()
            }
            (VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, data) => {
                let Ok(data) = <[u8; 8]>::try_from(data) else { return false };
                let wanted = u64::from_le_bytes(data);
                has(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS)
                    && wanted & !self.acked == 0
                    && self.pairs.set_offload(wanted).is_ok()
            }
            (VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, data) if has(VIRTIO_NET_F_CTRL_MAC_ADDR) => {
                self.face.is_some_and(|face| face.obey(class.into(), command.into(), data))
            }
            (VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, _) => false,
            (VIRTIO_NET_CTRL_RX | VIRTIO_NET_CTRL_MAC, command, data) => {
                has(VIRTIO_NET_F_CTRL_RX)
                    && self.face.is_some_and(|face| face.obey(class.into(), command, data))
            }
            _ => false,
        }
    }
}
