//! Entrances for fuzzing what a guest, or a peer that serves it, may say: bytes in, no panic out. A fuzzer
//! calls them ([`devices/fuzz`]), and the tests replay its corpus.
//!
//! - [`registers`]  any access to any device: configuration space, BARs, virtio over PCI and MMIO, the
//!   serial port, the IOAPIC; what the driver sets up so is served
//! - [`queues`]     rings, descriptors and requests of a disk, a card and its control queue
//! - [`peer`]       a vhost-user backend that answers what it likes

use std::fs::{File, OpenOptions};
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::blk::image::Image;
use crate::blk::{Blk, Engine, sync};
use crate::bus::Bus;
use crate::ioapic::Ioapic;
use crate::line::{Line, Port};
use crate::msi::{Message, Routes};
use crate::net::control::{Control, Pairs};
use crate::net::face::Face;
use crate::net::send::Send;
use crate::net::tap::Tap;
use crate::net::{Net, OFFLOADS, Options};
use crate::pci::bus::{ECAM_SIZE, Ecam, PciBus, Window};
use crate::pci::conf1::{self, Conf1};
use crate::pci::doorbell::{Ioeventfds, Match};
use crate::pci::msix::{MsiSink, MsiVector};
use crate::rng::Rng;
use crate::serial::Serial;
use crate::switch::fuzz::memory_file;
use crate::sys::{Memory, socket};
use crate::vhost_user::channel::Channel;
use crate::vhost_user::rings::Rings;
use crate::vhost_user::session::{Session, hear};
use crate::virtio::backend::QueueResources;
use crate::virtio::device::Device;
use crate::virtio::fault::Fault;
use crate::virtio::front::Front;
use crate::virtio::interrupt::Silent;
use crate::virtio::queue::Queue;
use crate::virtio::ring::Layout;
use crate::virtio::tally::{Shared, Tally};
use crate::virtio::transport::mmio::VirtioMmio;
use crate::virtio::transport::pci::VirtioPci;
use crate::virtio::userspace::Tuning;

/// Guest memory here: two regions that meet in the middle of [`queues`]'s buffers.
const MEMORY: u64 = 0x1_0000;
const PAGE: u64 = 0x1000;
/// Sectors of a disk.
const SECTORS: u64 = 64;

/// Where devices are, and how long: where accesses go.
const PLACES: [(u64, u64); 6] = [
    (0xe000_0000, ECAM_SIZE),
    (0xc000_0000, 0x2_0000),
    (0xd000_0000, 0x1000),
    (0xfec0_0000, 0x20),
    (0x3f8, 8),
    (conf1::PORT, conf1::LEN),
];

/// A machine without a hypervisor: it takes what devices ask for, and nothing comes of it.
struct Nobody(EventFd);

impl Nobody {
    fn new() -> Nobody {
        Nobody(EventFd::new(EFD_NONBLOCK).expect("make an event fd"))
    }
}

impl Ioeventfds for Nobody {
    fn attach(&self, _: u64, _: Match, _: &EventFd) -> io::Result<bool> {
        Ok(true)
    }
    fn detach(&self, _: u64, _: Match, _: &EventFd) -> io::Result<()> {
        Ok(())
    }
}

impl MsiSink for Nobody {
    fn vector(&self) -> io::Result<Box<dyn MsiVector>> {
        Ok(Box::new(Nobody::new()))
    }
}

impl MsiVector for Nobody {
    fn event(&self) -> Option<&EventFd> {
        Some(&self.0)
    }
    fn route(&self, _: Option<Message>) -> io::Result<()> {
        Ok(())
    }
    fn send(&self, _: Message) -> io::Result<()> {
        Ok(())
    }
}

impl Routes for Nobody {
    fn route(&mut self, _: u32, _: Option<Message>) {}
}

impl Line for Nobody {
    fn transmit(&mut self, _: u8) {}
    fn room(&mut self) {}
}

/// Memory whose second page begins with `data`: at 0 no ring may be.
fn memory(data: &[u8]) -> Memory {
    let file = Arc::new(memory_file(MEMORY));
    let range =
        |start| (GuestAddress(start), MEMORY as usize / 2, Some(FileOffset::from_arc(file.clone(), start)));
    let memory = GuestMemoryMmap::from_ranges_with_files([range(0), range(MEMORY / 2)]).expect("map memory");
    let len = data.len().min((MEMORY - PAGE) as usize);
    memory.write_slice(&data[..len], GuestAddress(PAGE)).expect("fill it");
    Arc::new(memory)
}

fn disk() -> Image {
    Image::over(memory_file(SECTORS * 512), SECTORS)
}

/// A tap, and the far end of its wire.
fn wire() -> (Tap, UnixDatagram) {
    let (ours, theirs) = UnixDatagram::pair().expect("make a wire");
    ours.set_nonblocking(true).expect("don't wait");
    theirs.set_nonblocking(true).expect("don't wait");
    (Tap::fake(vec![File::from(OwnedFd::from(ours))]), theirs)
}

/// A machine of one of each, and the guest's accesses to it: a byte of which device (or, 7, bytes into
/// memory), one of direction and length, two of where, then what is stored.
pub fn registers(mut data: &[u8]) {
    let (memory, nobody) = (memory(&[]), Arc::new(Nobody::new()));
    let mut pci = PciBus::new(PLACES[1].0..PLACES[1].0 + PLACES[1].1).expect("make a bus");
    let (tap, far) = wire();
    let card = Options { mac: [2, 0, 0, 0, 0, 1], offload: true };
    let devices: [Box<dyn Device>; 2] = [
        Box::new(Blk::new("blk.0", disk(), Engine::Sync, 2, Tuning::default()).expect("make a disk")),
        Box::new(Net::userspace("net.0", tap, &card, Tuning::default())),
    ];
    for device in devices {
        let front = Front::new(device, memory.clone(), true).expect("make its front");
        let function = VirtioPci::new(front, &*nobody, nobody.clone()).expect("make a function");
        pci.attach(Box::new(function)).expect("attach it");
    }
    let rng = Box::new(Rng::open("rng.0", Tuning::default()).expect("make a source"));
    let front = Front::new(rng, memory.clone(), true).expect("make its front");
    let mmio = VirtioMmio::new(front, PLACES[2].0, Arc::new(Silent), nobody.clone());
    let serial = Arc::new(Mutex::new(Serial::new(Nobody::new().0, Box::new(Nobody::new()))));
    let pci = Arc::new(Mutex::new(pci));
    let mut bus = Bus::default();
    let places: [crate::bus::Shared; 6] = [
        Arc::new(Mutex::new(Ecam(pci.clone()))),
        Arc::new(Mutex::new(Window(pci.clone()))),
        Arc::new(Mutex::new(mmio)),
        Arc::new(Mutex::new(Ioapic::new(4, Box::new(Nobody::new())))),
        serial.clone(),
        Arc::new(Mutex::new(Conf1::default())),
    ];
    for ((base, len), device) in PLACES.into_iter().zip(places) {
        bus.attach(base, len, device).expect("no overlap");
    }
    while let Some((&[device, how, low, high], rest)) = data.split_first_chunk() {
        let (write, len) = (how & 8 != 0, usize::from(how & 7) + 1);
        let at = u64::from(low) | u64::from(high) << 8 | u64::from(how >> 4) << 16;
        let Some((bytes, rest)) = rest.split_at_checked(if write { len } else { 0 }) else { break };
        data = rest;
        match PLACES.get(usize::from(device & 7)) {
            Some((base, size)) => {
                let address = base + at % size;
                bus.describe(address, write);
                if write {
                    bus.write(address, bytes);
                } else {
                    bus.read(address, &mut [0; 8][..len]);
                }
            }
            None if device & 7 == 6 => {
                serial.lock().expect("nobody panics").push(bytes);
                let _ = far.send(bytes);
            }
            None => {
                let _ = memory.write_slice(bytes, GuestAddress(at));
            }
        }
    }
    pci.lock().expect("nobody panics").quiesce();
    pci.lock().expect("nobody panics").counts();
}

/// A driver that has written `data` into memory, with a ring in its pages as the first bytes say, and
/// the requests that are found there: of a disk, a card's send queue or its control queue.
pub fn queues(data: &[u8]) {
    let Some((&[kind, log, base, flags], data)) = data.split_first_chunk() else { return };
    let memory = memory(data);
    let layout = Layout { size: 1 << (log & 7), descriptors: PAGE, available: 2 * PAGE, used: 3 * PAGE };
    let Some(resources) = resources(&memory, layout, base.into()) else { return };
    let Ok(mut queue) = Queue::new(resources, flags & 1 != 0, flags & 2 != 0) else { return };
    let mut tally = Tally::default();
    let null = OpenOptions::new().write(true).open("/dev/null").expect("open it");
    let (tap, _far) = wire();
    let card = Face::new([2, 0, 0, 0, 0, 1], true);
    for _ in 0..4 {
        let served = match kind & 3 {
            0 | 1 => {
                let mut disk =
                    sync::Disk::new(Arc::new(disk()), Shared::new(&crate::blk::request::Op::NAMES));
                queue.drain(&mut disk)
            }
            2 => queue.drain(&mut Send { tap: &null, tally: &mut tally, since: None }),
            _ => {
                let acked = if flags & 4 != 0 { u64::MAX } else { OFFLOADS };
                let pairs: &dyn Pairs = &tap;
                queue.drain(&mut Control { pairs, face: Some(&card), acked })
            }
        };
        if served.is_err() {
            return;
        }
    }
    queue.into_resources();
}

fn resources(memory: &Memory, layout: Layout, base: u16) -> Option<QueueResources> {
    Some(QueueResources {
        index: 0,
        layout,
        base,
        kick: Arc::new(EventFd::new(EFD_NONBLOCK).ok()?),
        call: Arc::new(Silent),
        memory: memory.clone(),
        counters: Arc::default(),
        fault: Arc::new(Fault::new("blk.0")),
    })
}

/// A backend that has said `data` before it was asked: pieces of a byte of length, one of how many fds come
/// with it, and the bytes. It is met, told of rings, listened to, and asked to give them back.
pub fn peer(mut data: &[u8]) {
    let Some((&[what], rest)) = data.split_first_chunk() else { return };
    data = rest;
    let (ours, theirs) = UnixStream::pair().expect("make a socket");
    let null = File::open("/dev/null").expect("open it");
    while let Some((&[len, fds], rest)) = data.split_first_chunk() {
        let (bytes, rest) = rest.split_at(rest.len().min(len.into()));
        data = rest;
        let fds: Vec<_> = (0..fds & 15).map(|_| null.as_fd()).collect();
        if socket::send(&theirs, bytes, &fds).is_err() {
            break;
        }
    }
    // What it has not said it never will: nobody waits.
    theirs.shutdown(Shutdown::Write).expect("say no more");
    let patience = Duration::from_secs(5);
    if what & 1 != 0 {
        let notices = Channel::new(ours, patience).expect("don't wait");
        while hear(&notices).is_ok() {}
        return;
    }
    let Ok(session) = Session::meet(ours, patience) else { return };
    let _ = session.serves(2);
    if what & 2 != 0 && session.config(60).is_err() {
        return;
    }
    let memory = memory(&[]);
    let layout = Layout { size: 16, descriptors: PAGE, available: 2 * PAGE, used: 3 * PAGE };
    let Some(resources) = resources(&memory, layout, 0) else { return };
    let Ok(mut rings) = Rings::new(vec![resources], session.features(), 1) else { return };
    if rings.give(&session, what & 4 != 0).is_ok() && rings.take(&session).is_ok() {
        let _ = session.look();
    }
    rings.into_queues();
}

/// What the fuzzer has found worth keeping, again.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_of_the_fuzzer() {
        for (folder, target) in [("registers", registers as fn(&[u8])), ("queues", queues), ("peer", peer)] {
            let folder = format!("{}/fuzz/corpus/{folder}", env!("CARGO_MANIFEST_DIR"));
            let files: Vec<_> =
                std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
            assert!(!files.is_empty(), "{folder}");
            files.iter().for_each(|file| target(&std::fs::read(file).unwrap()));
        }
    }
}
