//! A driver that goes on while its device serves: what it has stored is stored again, frames and keys come
//! in between, and it is reset.

use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex};

use virtio_bindings::virtio_net::VIRTIO_NET_F_MRG_RXBUF;
use vm_memory::{Bytes, GuestAddress};

use super::{PAGE, disk, memory, resources, wire};
use crate::blk::{request::Op, sync, uring};
use crate::console::{Teletype, port::ConsolePort};
use crate::line::{Line, Port};
use crate::net::{OFFLOADS, face::Face, pair::Pair};
use crate::sys::Memory;
use crate::virtio::backend::QueueResources;
use crate::virtio::queue::Queue;
use crate::virtio::rate::Throttle;
use crate::virtio::ring::Layout;
use crate::virtio::tally::Shared;
use crate::virtio::userspace::{EachChain, Server};

/// Parts of a queue's page.
const AVAILABLE: u64 = 0x800;
const USED: u64 = 0xa00;
/// Longest that comes at once: more than the longest frame.
const LONGEST: usize = 0x1_0100;

/// A byte of which server, one of how long its rings are, one of features; then what happens: a byte of what
/// and to which queue, and what belongs to it.
pub fn servers(data: &[u8]) {
    let Some((&[kind, log, features], mut rest)) = data.split_first_chunk() else { return };
    let memory = memory(&[]);
    let (mut server, count, outside) = server(kind, features);
    let mut drivers: Vec<_> =
        (1..=count).map(|page| Driver::new(&memory, PAGE * page, 1 << (log % 7))).collect();
    // Each driver finds what the one before has left.
    while run(server.as_mut(), &mut drivers, features, &outside, &mut rest).is_some() {}
    drop(drivers);
    assert_eq!(Arc::strong_count(&memory), 1, "a server that has ended can still touch memory");
}

/// From DRIVER_OK to reset; `None`: it was the last.
fn run(
    server: &mut dyn Server,
    drivers: &mut [Driver],
    features: u8,
    outside: &Outside,
    data: &mut &[u8],
) -> Option<()> {
    let queues = drivers.iter_mut().zip(0..).map(|(driver, index)| driver.start(index, features));
    let mut queues = queues.collect::<Option<Vec<_>>>()?;
    let goes_on = server
        .begin(&mut queues, acked(features))
        .ok()
        .and_then(|()| while_it_serves(server, &mut queues, drivers, outside, data));
    server.end(&mut queues);
    goes_on
}

/// What happens until the driver resets its device; `None`: nothing more, or a ring is broken.
fn while_it_serves(
    server: &mut dyn Server,
    queues: &mut [Queue],
    drivers: &mut [Driver],
    outside: &Outside,
    data: &mut &[u8],
) -> Option<()> {
    loop {
        let [what] = take(data)?;
        let driver = &mut drivers[usize::from(what >> 4) % queues.len()];
        match what & 7 {
            0 | 1 => {
                server.serve(queues, what & 1 != 0).ok()?;
                queues.iter().for_each(|queue| _ = server.awaits_kick(queue.resources.index));
                server.nap();
                outside.hear();
            }
            2 => {
                let [low, high, len] = take(data)?;
                let at = GuestAddress(u16::from_le_bytes([low, high]).into());
                let _ = driver.memory.write_slice(take_many(data, len), at);
            }
            3 => {
                let [len, times] = take(data)?;
                let mut said = take_many(data, len).repeat(usize::from(times) + 1);
                said.truncate(LONGEST);
                outside.say(&said);
            }
            4 | 5 => {
                let [at, len, shift, flags] = take(data)?;
                driver.describe(u64::from(at) << 8, u32::from(len) << (shift & 15), flags);
            }
            6 => driver.offer(),
            _ => return Some(()),
        }
    }
}

fn take<const N: usize>(data: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = data.split_first_chunk()?;
    *data = rest;
    Some(*taken)
}

fn take_many<'d>(data: &mut &'d [u8], len: u8) -> &'d [u8] {
    let (taken, rest) = data.split_at(data.len().min(len.into()));
    *data = rest;
    taken
}

/// Bits of the features byte; two more are of the disk and of all that there may be.
const INDIRECT: u8 = 1;
const EVENT_IDX: u8 = 2;
const MERGEABLE: u8 = 4;
const LONG_FRAMES: u8 = 8;
const ALL: u8 = 16;
const RESIDENT: u8 = 32;
const ALIGNED: u8 = 64;

fn acked(features: u8) -> u64 {
    let bits = [
        (MERGEABLE, 1 << VIRTIO_NET_F_MRG_RXBUF),
        (LONG_FRAMES, OFFLOADS),
        (ALL, !(1 << VIRTIO_NET_F_MRG_RXBUF)),
    ];
    bits.iter().filter(|(bit, _)| features & bit != 0).fold(0, |acked, (_, bits)| acked | bits)
}

/// What is at the device's other end.
enum Outside {
    Nothing,
    Wire(UnixDatagram),
    Keys(Arc<Mutex<ConsolePort>>),
}

impl Outside {
    fn say(&self, bytes: &[u8]) {
        match self {
            Outside::Nothing => {}
            Outside::Wire(far) => drop(far.send(bytes)),
            Outside::Keys(port) => drop(port.lock().expect("nobody panics").push(bytes)),
        }
    }

    /// Takes what the device has sent, so that there is room for more.
    fn hear(&self) {
        if let Outside::Wire(far) = self {
            while far.recv(&mut [0; 16]).is_ok() {}
        }
    }
}

struct Nowhere;

impl Line for Nowhere {
    fn transmit(&mut self, _: u8) {}
    fn room(&mut self) {}
}

/// A server, how many queues it has, and its other end.
fn server(kind: u8, features: u8) -> (Box<dyn Server>, u64, Outside) {
    let tally = Shared::new(&Op::NAMES);
    match kind & 3 {
        0 => {
            let handler = sync::Disk::new(Arc::new(disk()), tally);
            (Box::new(EachChain::new(handler, Throttle::default())), 1, Outside::Nothing)
        }
        1 => {
            // Aligned as O_DIRECT needs it, or not: then through a buffer of its own.
            let image = if features & ALIGNED == 0 { disk() } else { disk().aligned(512) };
            let resident = features & RESIDENT != 0;
            let disk = uring::Disk::new(Arc::new(image), tally, resident, Throttle::default());
            (Box::new(disk), 1, Outside::Nothing)
        }
        2 => {
            let (tap, far) = wire();
            let face = Arc::new(Face::new([2, 0, 0, 0, 0, 1], true));
            let pair = Pair::new(Arc::new(tap), 0, face, Shared::new(&["receive", "send", "unwanted"]));
            (Box::new(pair), 3, Outside::Wire(far))
        }
        _ => {
            let port = ConsolePort::new(Box::new(Nowhere)).expect("make a port");
            let port = Arc::new(Mutex::new(port));
            (Box::new(Teletype::new(port.clone())), 2, Outside::Keys(port))
        }
    }
}

/// One queue's driver, which knows its ring, and that it may be written over.
struct Driver {
    memory: Memory,
    layout: Layout,
    /// The descriptor written next, and the first of the chain that it belongs to.
    next: u16,
    head: u16,
    offered: u16,
}

impl Driver {
    fn new(memory: &Memory, page: u64, size: u16) -> Driver {
        let layout = Layout { size, descriptors: page, available: page + AVAILABLE, used: page + USED };
        Driver { memory: memory.clone(), layout, next: 0, head: 0, offered: 0 }
    }

    /// A ring from its beginning; in its descriptors there is what was there.
    fn start(&mut self, index: u16, features: u8) -> Option<Queue> {
        (self.next, self.head, self.offered) = (0, 0, 0);
        for part in [self.layout.available, self.layout.used] {
            let _ = self.memory.write_obj(0_u32, GuestAddress(part));
        }
        let resources = QueueResources { index, ..resources(&self.memory, self.layout, 0)? };
        Queue::new(resources, features & INDIRECT != 0, features & EVENT_IDX != 0).ok()
    }

    /// Goes on with a chain: what else than its next descriptor it leads to, the fuzzer stores.
    fn describe(&mut self, address: u64, len: u32, flags: u8) {
        let next = (self.next + 1) % self.layout.size;
        let words = [address, u64::from(len) | u64::from(flags) << 32 | u64::from(next) << 48];
        let at = self.layout.descriptors + 16 * u64::from(self.next);
        let _ = self.memory.write_slice(&words.map(u64::to_le_bytes).concat(), GuestAddress(at));
        self.next = next;
    }

    /// Makes the chain available.
    fn offer(&mut self) {
        let entry = self.layout.available + 4 + 2 * u64::from(self.offered % self.layout.size);
        self.offered = self.offered.wrapping_add(1);
        let _ = self.memory.write_obj(self.head, GuestAddress(entry));
        let _ = self.memory.write_obj(self.offered, GuestAddress(self.layout.available + 2));
        self.head = self.next;
    }
}
