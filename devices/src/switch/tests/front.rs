//! A front end played in Rust: a socket, shared memory, and drivers of a queue pair or more. Honest by
//! default; a test that isn't uses [`Front::ask`] and [`Front::memory`] itself.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use virtio_bindings::virtio_net::VIRTIO_NET_F_MRG_RXBUF;
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::super::FEATURES;
use crate::fuzz::memory_file;
use crate::sys::Memory;
use crate::testing::driver::Driver;
use crate::vhost_user::channel::{Channel, PeerError};
use crate::vhost_user::message::*;

pub const MEMORY: u64 = 16 << 20;
/// Where the front end says that it has mapped guest address 0.
pub const USER: u64 = 0x7000_0000_0000;
/// Entries of each ring.
pub const SIZE: u16 = 64;
const SLOT: u64 = 0x2_0000;
const HEADER: usize = 12;
/// Longer than any machine needs; a test fails by it, and asserts no time.
pub const SOON: Duration = Duration::from_secs(20);

/// One queue pair of the front end's.
pub struct Queues {
    pub receive: Driver,
    pub send: Driver,
    pub kicks: [EventFd; 2],
    pub calls: [EventFd; 2],
    /// Receive buffers by head: address and length.
    posted: Vec<(u16, u64, u32)>,
    buffers: u64,
    sent: u64,
}

/// A front end.
pub struct Front {
    pub channel: Channel,
    pub memory: Memory,
    pub file: File,
    pub features: u64,
    pub pairs: Vec<Queues>,
}

impl Front {
    /// Connects, and says nothing yet.
    pub fn connect(path: &str) -> Front {
        let stream = UnixStream::connect(path).unwrap();
        let file = memory_file(MEMORY);
        let offset = FileOffset::new(file.try_clone().unwrap(), 0);
        let ranges = [(GuestAddress(0), MEMORY as usize, Some(offset))];
        let memory = Arc::new(GuestMemoryMmap::from_ranges_with_files(ranges).unwrap());
        Front { channel: Channel::new(stream, SOON).unwrap(), memory, file, features: 0, pairs: Vec::new() }
    }

    /// Connects and runs so many queue pairs.
    pub fn run(path: &str, features: u64, pairs: u16) -> Front {
        let mut front = Front::connect(path);
        front.greet(features);
        (0..pairs).for_each(|pair| front.start_pair(pair));
        front
    }

    /// A request, and the acknowledgement that it asks for.
    pub fn ask(&self, request: Request, fds: &[BorrowedFd<'_>]) -> Result<u64, PeerError> {
        self.channel.ask(&request, true, fds)?;
        let answer = self.channel.receive_soon()?;
        let mut bytes = [0; 8];
        let len = answer.payload.len().min(8);
        bytes[..len].copy_from_slice(&answer.payload[..len]);
        Ok(u64::from_ne_bytes(bytes))
    }

    fn done(&self, request: Request, fds: &[BorrowedFd<'_>]) {
        let text = format!("{request:?}");
        assert_eq!(self.ask(request, fds).unwrap(), 0, "{text}");
    }

    /// Up to the memory table.
    pub fn greet(&mut self, features: u64) {
        let offered = self.ask(Request::GetFeatures, &[]).unwrap();
        assert_eq!(offered, FEATURES | F_PROTOCOL);
        let spoken = self.ask(Request::GetProtocolFeatures, &[]).unwrap();
        self.channel.ask(&Request::SetProtocolFeatures(spoken), false, &[]).unwrap();
        self.done(Request::SetOwner, &[]);
        self.done(Request::SetFeatures(features | F_PROTOCOL), &[]);
        self.features = features;
        let region = Region { guest: 0, size: MEMORY, user: USER, offset: 0 };
        self.done(Request::SetMemTable(vec![region]), &[self.file.as_fd()]);
    }

    /// Sets up and enables the next queue pair.
    pub fn start_pair(&mut self, pair: u16) {
        let base = 0x10_0000 + u64::from(pair) * 0x2_0000;
        let queues = Queues {
            receive: Driver::new(&self.memory, base, SIZE),
            send: Driver::new(&self.memory, base + 0x1_0000, SIZE),
            kicks: [(); 2].map(|()| EventFd::new(EFD_NONBLOCK).unwrap()),
            calls: [(); 2].map(|()| EventFd::new(EFD_NONBLOCK).unwrap()),
            posted: Vec::new(),
            buffers: 0,
            sent: 0,
        };
        self.pairs.push(queues);
        for side in 0..2 {
            self.start_ring(2 * pair + side, 0);
        }
    }

    /// Hands over a ring that goes on from `base`.
    pub fn start_ring(&self, index: u16, base: u32) {
        let queues = &self.pairs[usize::from(index / 2)];
        let side = usize::from(index % 2);
        let layout = if side == 0 { queues.receive.layout } else { queues.send.layout };
        let state = |value| RingState { index: index.into(), value };
        self.done(Request::SetVringNum(state(layout.size.into())), &[]);
        self.done(Request::SetVringBase(state(base)), &[]);
        self.done(
            Request::SetVringAddr(Addresses {
                index: index.into(),
                flags: 0,
                descriptors: USER + layout.descriptors,
                used: USER + layout.used,
                available: USER + layout.available,
                log: 0,
            }),
            &[],
        );
        let fd = RingFd { index: index as u8, present: true };
        self.done(Request::SetVringCall(fd), &[borrow(&queues.calls[side])]);
        self.done(Request::SetVringKick(fd), &[borrow(&queues.kicks[side])]);
        self.done(Request::SetVringEnable(state(1)), &[]);
    }

    /// Stops a ring; where it would go on.
    pub fn stop_ring(&self, index: u16) -> u32 {
        self.channel
            .ask(&Request::GetVringBase(RingState { index: index.into(), value: 0 }), false, &[])
            .unwrap();
        let answer = self.channel.receive_soon().unwrap();
        RingState::decode(&answer.payload).unwrap().value
    }

    /// Gives the switch buffers to fill, each made of parts of these lengths.
    pub fn post(&mut self, pair: usize, parts: &[u32], count: usize) {
        let queues = &mut self.pairs[pair];
        for _ in 0..count {
            let at = 0x80_0000 + pair as u64 * 0x10_0000 + queues.buffers % 64 * 0x4000;
            queues.buffers += 1;
            let mut start = at;
            let buffers: Vec<_> = parts
                .iter()
                .map(|&len| {
                    start += u64::from(len);
                    (start - u64::from(len), len)
                })
                .collect();
            let head = queues.receive.chain(&[], &buffers);
            queues.posted.push((head, at, parts.iter().sum()));
            queues.receive.offer(head);
        }
        queues.kicks[0].write(1).unwrap();
    }

    /// Sends a frame under this virtio header, in parts of these lengths (the last takes the rest).
    pub fn send_parts(&mut self, pair: usize, header: [u8; HEADER], frame: &[u8], parts: &[usize]) {
        let queues = &mut self.pairs[pair];
        let at = 0x40_0000 + (pair as u64 % 2 * 16 + queues.sent % 16) * SLOT;
        queues.sent += 1;
        let bytes = [&header[..], frame].concat();
        self.memory.write_slice(&bytes, GuestAddress(at)).unwrap();
        let (mut buffers, mut done) = (Vec::new(), 0);
        for &part in parts {
            buffers.push((at + done as u64, part as u32));
            done += part;
        }
        buffers.push((at + done as u64, (bytes.len() - done) as u32));
        let head = queues.send.chain(&buffers, &[]);
        queues.send.offer(head);
        queues.kicks[1].write(1).unwrap();
    }

    /// Sends a frame in one buffer.
    pub fn send(&mut self, frame: &[u8]) {
        self.send_parts(0, [0; HEADER], frame, &[]);
    }

    /// The next frame that arrived on queue `pair`, behind its virtio header; `None` if none is there.
    pub fn arrived(&mut self, pair: usize) -> Option<([u8; HEADER], Vec<u8>)> {
        let queues = &mut self.pairs[pair];
        let mut bytes = Vec::new();
        let (mut count, mut got) = (1, 0);
        while got < count {
            let Some((head, len)) = queues.receive.used() else {
                assert_eq!(got, 0, "part of a frame");
                return None;
            };
            let at = queues.posted.iter().position(|(posted, ..)| *posted == head).unwrap();
            let (_, address, room) = queues.posted.remove(at);
            assert!(len <= room);
            let mut part = vec![0; len as usize];
            self.memory.read_slice(&mut part, GuestAddress(address)).unwrap();
            bytes.extend(part);
            if got == 0 && self.features & 1 << VIRTIO_NET_F_MRG_RXBUF != 0 {
                count = u16::from_le_bytes([bytes[10], bytes[11]]);
            }
            got += 1;
        }
        let header = bytes[..HEADER].try_into().unwrap();
        Some((header, bytes[HEADER..].to_vec()))
    }

    /// The next frame, which is to come.
    pub fn receive(&mut self) -> Vec<u8> {
        soon(|| self.arrived(0)).1
    }

    /// Waits until everything sent on `pair` has been given back; returns how many chains that was.
    pub fn sent(&mut self, pair: usize, count: usize) {
        (0..count).for_each(|_| {
            soon(|| self.pairs[pair].send.used());
        });
    }
}

/// What is to happen soon.
pub fn soon<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "it did not happen");
        thread::sleep(Duration::from_micros(200));
    }
}

fn borrow(event: &EventFd) -> BorrowedFd<'_> {
    // EventFd has no AsFd of its own.
    crate::sys::event::borrow(event)
}
