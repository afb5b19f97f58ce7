//! A disk whose peer is played here: one that serves, dies and comes back; [`rogue`] has those that do worse.

mod rogue;

use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{sleep, spawn};

use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::testing::bringup::{DEVICE, Rig, until};
use crate::testing::machine::Scratch;
use crate::testing::peer::{Notes, Offer, Peer};
use crate::testing::toy::Ones;
use crate::vhost_user::blk::Disk;
use crate::vhost_user::channel::{Channel, PeerError};
use crate::vhost_user::message::{Code, F_PROTOCOL, MOST_REGIONS, MessageError, Request, protocol};
use crate::virtio::chain::Chain;
use crate::virtio::device::Device;
use crate::virtio::queue::Queue;
use crate::virtio::rate::Throttle;
use crate::virtio::ring::RingError;
use crate::virtio::userspace::{EachChain, Group, Server};

/// EVENT_IDX.
const HINTS: u64 = 1 << 29;

fn address(socket: &Path) -> Address {
    Address { socket: socket.into(), patience: Duration::from_millis(300) }
}

fn ones(queues: u16) -> impl Fn(&Notes) -> Vec<Group> {
    move |_| {
        (0..queues)
            .map(|q| Group { queues: vec![q], server: Box::new(EachChain::new(Ones, Throttle::default())) })
            .collect()
    }
}

fn disk(socket: &Path, queues: u16) -> Rig {
    let disk = Disk::open("blk.0", address(socket), queues, &Tuning::default()).unwrap();
    let mut rig = Rig::new(Box::new(disk), false);
    rig.bring_up(16, HINTS);
    rig
}

fn offer(rig: &mut Rig, queue: usize) -> u16 {
    let head = rig.drivers[queue].chain(&[], &[(0x9000, 64)]);
    rig.drivers[queue].offer(head);
    rig.kick(queue as u64);
    head
}

fn ask(rig: &mut Rig, queue: usize) {
    let head = offer(rig, queue);
    assert_eq!(rig.wait(queue), (head, 64));
}

#[test]
fn every_queue_is_served_and_interrupts() {
    let socket = Scratch::new("served");
    let _peer = Peer::start(&socket, Offer::default(), ones(3));
    let mut rig = disk(&socket, 3);
    rig.memory.write_slice(&[0; 64], GuestAddress(0x9000)).unwrap();
    for queue in [0, 2, 1, 0] {
        ask(&mut rig, queue);
    }
    assert_eq!(rig.memory.read_obj::<u64>(GuestAddress(0x9038)).unwrap(), u64::MAX);
    let counts = rig.bus.lock().unwrap().counts();
    assert_eq!((counts[0].data_path, counts[0].queues.len()), ("vhost-user", 3));
    rig.bus.lock().unwrap().quiesce();
    assert!((1..=3).all(|vector| rig.machine.raised(vector) > 0));
}

#[test]
fn a_reset_takes_the_rings_back() {
    let socket = Scratch::new("reset");
    let _peer = Peer::start(&socket, Offer::default(), ones(1));
    let mut rig = disk(&socket, 1);
    for _ in 0..3 {
        ask(&mut rig, 0);
        offer(&mut rig, 0);
        rig.bring_up(16, HINTS);
        ask(&mut rig, 0);
    }
}

#[test]
fn the_configuration_is_the_peers_and_may_change() {
    let socket = Scratch::new("config");
    let offer = Offer::default();
    *offer.config.lock().unwrap() = vec![0x55; 60];
    let config = offer.config.clone();
    let peer = Peer::start(&socket, offer, ones(2));
    let mut rig = disk(&socket, 2);
    assert_eq!(rig.load(DEVICE, 8), 0x5555_5555_5555_5555);
    assert_eq!(rig.load(DEVICE + 34, 2), 2, "as many queues as there are");
    let generation = rig.load(21, 1);
    *config.lock().unwrap() = vec![0x66; 60];
    peer.config_changed();
    until(|| (rig.load(21, 1) != generation).then_some(()));
    assert_eq!(rig.load(DEVICE, 8), 0x6666_6666_6666_6666);
    assert_eq!(rig.load(DEVICE + 34, 2), 2);
    ask(&mut rig, 0);
}

#[test]
fn a_peer_that_dies_is_waited_for_and_nothing_is_lost() {
    let socket = Scratch::new("back");
    let mut peer = Peer::start(&socket, Offer::default(), ones(2));
    let mut rig = disk(&socket, 2);
    for _ in 0..3 {
        ask(&mut rig, 0);
        peer.die();
        let heads = [0, 0, 1].map(|queue| offer(&mut rig, queue));
        sleep(Duration::from_millis(30));
        assert!(rig.drivers[0].used().is_none(), "nobody is there");
        peer = Peer::start(&socket, Offer::default(), ones(2));
        assert_eq!(rig.wait(0), (heads[0], 64));
        assert_eq!(rig.wait(0), (heads[1], 64));
        assert_eq!(rig.wait(1), (heads[2], 64));
    }
    assert_eq!(rig.load(20, 1), 15, "the driver has noticed nothing");
}

#[test]
fn a_driver_may_come_up_while_nobody_is_there() {
    let socket = Scratch::new("later");
    let peer = Peer::start(&socket, Offer::default(), ones(1));
    let disk = Disk::open("blk.0", address(&socket), 1, &Tuning::default()).unwrap();
    let mut rig = Rig::new(Box::new(disk), false);
    peer.die();
    sleep(Duration::from_millis(5));
    rig.bring_up(16, HINTS);
    let head = offer(&mut rig, 0);
    rig.bring_up(16, HINTS);
    let again = offer(&mut rig, 0);
    let _peer = Peer::start(&socket, Offer::default(), ones(1));
    assert_eq!((rig.wait(0), head), ((again, 64), again));
}

/// Takes requests, and gives back those with an odd head at once, the others only after a restart. What
/// it holds is in its notes.
struct Hoarder {
    notes: Notes,
    /// After a restart: what its predecessor held.
    held: Vec<u16>,
}

impl Hoarder {
    fn note(&self, head: u16, held: u8) {
        let notes = self.notes.lock().unwrap();
        notes.as_ref().expect("a front end that keeps notes").write_all_at(&[held], head.into()).unwrap();
    }
}

impl Server for Hoarder {
    fn begin(&mut self, queues: &mut [Queue], _: u64) -> io::Result<()> {
        let mut bytes = [0; 16];
        self.notes.lock().unwrap().as_ref().expect("notes").read_exact_at(&mut bytes, 0)?;
        self.held = (0..16).filter(|&head| bytes[usize::from(head)] != 0).collect();
        // What is held was made available before what comes next.
        queues[0].ring().skip(self.held.len() as u16);
        Ok(())
    }

    fn serve(&mut self, queues: &mut [Queue], _: bool) -> Result<bool, RingError> {
        let queue = &mut queues[0];
        for head in std::mem::take(&mut self.held) {
            queue.give(head, 7, 0);
            self.note(head, 0);
        }
        let mut chain = Chain::new(&queue.resources.memory);
        while queue.ring().take(&mut chain)? {
            self.note(chain.head, 1);
            if chain.head % 2 == 1 {
                queue.give(chain.head, 64, 0);
                self.note(chain.head, 0);
            }
        }
        queue.settle();
        Ok(false)
    }
}

#[test]
fn what_a_peer_held_when_it_died_its_successor_finishes() {
    let hoarder = |notes: &Notes| {
        let server = Box::new(Hoarder { notes: notes.clone(), held: Vec::new() });
        vec![Group { queues: vec![0], server }]
    };
    let socket = Scratch::new("inflight");
    let peer = Peer::start(&socket, Offer::default(), hoarder);
    let mut rig = disk(&socket, 1);
    let heads: Vec<u16> = (0..6).map(|_| offer(&mut rig, 0)).collect();
    assert_eq!(heads, [0, 1, 2, 3, 4, 5]);
    // Three come back, out of order: the used index alone would have 3, 4, 5 served (again).
    assert_eq!([rig.wait(0).0, rig.wait(0).0, rig.wait(0).0], [1, 3, 5]);
    peer.die();
    let seventh = offer(&mut rig, 0);
    let _peer = Peer::start(&socket, Offer::default(), hoarder);
    let mut back: Vec<_> = (0..3).map(|_| rig.wait(0)).collect();
    back.sort_unstable();
    assert_eq!(back, [(0, 7), (2, 7), (4, 7)], "resubmitted");
    // The next is not one of them, and is noted as held.
    let eighth = offer(&mut rig, 0);
    assert_eq!((rig.wait(0), seventh), ((eighth, 64), 6));
}

#[test]
fn a_socket_that_is_absent_or_has_no_listener() {
    let socket = Scratch::new("absent");
    let error = |socket: &Path| {
        Disk::open("blk.0", address(socket), 1, &Tuning::default()).map(|_| ()).unwrap_err().to_string()
    };
    assert!(error(&socket).ends_with("No such file or directory (os error 2); start its backend first"));
    drop(UnixListener::bind(&*socket).unwrap());
    assert!(error(&socket).ends_with("Connection refused (os error 111); start its backend first"));
    let long: PathBuf = format!("/tmp/{}", "x".repeat(200)).into();
    assert!(error(&long).contains("connect: "), "{}", error(&long));
}

#[test]
fn a_successor_must_be_as_able() {
    let socket = Scratch::new("lesser");
    let peer = Peer::start(&socket, Offer::default(), ones(2));
    let mut rig = disk(&socket, 2);
    ask(&mut rig, 0);
    peer.die();
    let head = offer(&mut rig, 0);
    for change in [|offer: &mut Offer| offer.features &= !(1 << 9), |offer: &mut Offer| offer.queues = 1] {
        let mut lesser = Offer::default();
        change(&mut lesser);
        let lesser = Peer::start(&socket, lesser, ones(2));
        sleep(Duration::from_millis(100));
        assert!(rig.drivers[0].used().is_none());
        lesser.die();
    }
    let _peer = Peer::start(&socket, Offer::default(), ones(2));
    assert_eq!(rig.wait(0), (head, 64));
}

#[test]
fn private_memory_is_the_monitors_mistake_and_said() {
    let socket = Scratch::new("private");
    let _peer = Peer::start(&socket, Offer::default(), ones(1));
    let mut disk = Disk::open("blk.0", address(&socket), 1, &Tuning::default()).unwrap();
    let ranges = [(GuestAddress(0), 1 << 20)];
    let memory = Arc::new(vm_memory::GuestMemoryMmap::from_ranges(&ranges).unwrap());
    let queue = QueueResources {
        index: 0,
        layout: crate::virtio::ring::Layout { size: 16, descriptors: 0, available: 0x1000, used: 0x2000 },
        base: 0,
        kick: Arc::new(EventFd::new(EFD_NONBLOCK).unwrap()),
        call: Arc::new(crate::virtio::interrupt::Silent),
        memory,
        counters: Arc::default(),
        fault: Arc::new(crate::virtio::fault::Fault::new("blk.0")),
    };
    let error = disk.backend().start(vec![queue], 1 << 32).unwrap_err().to_string();
    assert!(error.ends_with("guest memory is not shared with other processes"), "{error}");
}
