//! Front ends of the switch, and their rings.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

use super::{MEMORY, PAGE, memory_file};
use crate::switch::FEATURES;
use crate::switch::ring::{Ring, Way};
use crate::sys::event;
use crate::sys::peer::{PeerMemory, Pieces};
use crate::vhost_user::backend::{Backend, Device, Setup};
use crate::vhost_user::message::{HEADER, Header, Region, Request};
use crate::virtio::ring::{Layout, RingError};

/// A front end that says `data`: message after message, each with as many fds as the two bits before it
/// say, the rings of which are then served.
pub fn messages(mut data: &[u8]) {
    let mut backend = Backend::new(Rings((0..4).map(|_| None).collect()));
    while let Some((&[kinds], rest)) = data.split_first_chunk() {
        let Some((header, rest)) = rest.split_first_chunk::<HEADER>() else { return };
        let Ok(header) = Header::decode(header) else { return };
        let Some((payload, rest)) = rest.split_at_checked(header.size as usize) else { return };
        data = rest;
        let fds: Vec<OwnedFd> = (0..kinds >> 4 & 7).map(|_| fd(kinds)).collect();
        let Ok(request) = Request::decode(&header, payload, fds.len()) else { return };
        if backend.handle(request, fds).is_err() {
            return;
        }
    }
}

fn fd(kinds: u8) -> OwnedFd {
    match kinds & 3 {
        0 => event::own(EventFd::new(0).expect("make an event fd")),
        1 => File::open("/dev/null").expect("open").into(),
        _ => memory_file(MEMORY).into(),
    }
}

/// Serves each ring once where it starts.
struct Rings(Vec<Option<Ring>>);

impl Device for Rings {
    fn features(&self) -> u64 {
        FEATURES
    }

    fn rings(&self) -> u16 {
        self.0.len() as u16
    }

    fn start(&mut self, index: u16, setup: Setup) -> Result<(), RingError> {
        let Setup { memory, layout, base, features, .. } = setup;
        let mut ring = Ring::new(&memory, layout, base, way(index.into()), features)?;
        serve(&mut ring, &memory);
        self.0[usize::from(index)] = Some(ring);
        Ok(())
    }

    fn stop(&mut self, index: u16) -> Option<u32> {
        self.0[usize::from(index)].take().map(|ring| ring.base())
    }
}

fn way(bits: u64) -> Way {
    if bits & 1 == 0 { Way::Receive } else { Way::Send }
}

/// A peer whose memory holds `data`, with a ring in its first pages as the first bytes describe it.
pub fn ring(data: &[u8]) {
    let Some((&[kind, log, base, wrap], data)) = data.split_first_chunk() else { return };
    let file = memory_file(MEMORY);
    let len = data.len().min(MEMORY as usize);
    file.write_all_at(&data[..len], 0).expect("fill it");
    let region = Region { guest: 0, size: MEMORY, user: 0, offset: 0 };
    let memory = PeerMemory::default().with(region, file.into()).expect("map it");
    let memory = Arc::new(memory);
    let size = 1 << (log & 7);
    let layout = Layout { size, descriptors: 0, available: PAGE, used: 2 * PAGE };
    let base = u32::from_le_bytes([base, wrap, base, wrap]);
    // Packed, indirect and EVENT_IDX or not.
    let features = (0..3).filter(|bit| kind >> bit & 1 == 1).map(|bit| 1 << [34, 28, 29][bit]).sum();
    if let Ok(mut ring) = Ring::new(&memory, layout, base, way(u64::from(kind) >> 3), features) {
        serve(&mut ring, &memory);
    }
}

/// Takes, takes back, fills and publishes for a few rounds, or until the ring is broken.
fn serve(ring: &mut Ring, memory: &Arc<PeerMemory>) {
    let (mut pieces, mut chains) = (Pieces::default(), Vec::new());
    for round in 0..4 {
        pieces.reset(memory);
        chains.clear();
        if ring.take(16, &mut pieces, &mut chains).is_err() || ring.listen() && chains.is_empty() {
            return;
        }
        let keep = chains.len() - chains.len().min(round);
        ring.untake(&chains[keep..]);
        for chain in &chains[..keep] {
            let mut bytes = [0; 256];
            let got = pieces.read(&mut chain.start(), &mut bytes);
            pieces.write(&mut chain.start(), &bytes[..got.min(chain.len as usize)]);
            ring.fill(chain, chain.len);
        }
        ring.publish();
        ring.hush();
    }
    ring.base();
}
