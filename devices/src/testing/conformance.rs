//! One suite for every backend: a network card of two queue pairs, brought up and driven through its
//! registers, must behave alike whether a worker here, the kernel's vhost or another process serves it.

use std::any::Any;
use std::fs::File;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::Duration;

use virtio_bindings::virtio_net::*;
use vm_memory::{Bytes, GuestAddress};

use super::bringup::{Rig, until};
use super::driver::Driver;
use super::machine::{self, Scratch};
use super::peer::{Offer, Peer};
use crate::net::pair::Pair;
use crate::net::tap::Tap;
use crate::net::{Net, Options, mac_for};
use crate::sys::tap::{self, MULTI_QUEUE, NO_PI, TAP, VNET_HDR};
use crate::vhost;
use crate::vhost_user;
use crate::vhost_user::session::Address;
use crate::virtio::backend::QueueResources;
use crate::virtio::device::Device;
use crate::virtio::fault::Fault;
use crate::virtio::interrupt::Silent;
use crate::virtio::userspace::{Group, Tuning};

const PAIRS: u16 = 2;
/// Send queues of both pairs, and the control queue.
const TX: [usize; 2] = [1, 3];
const CONTROL: usize = 4;
const INDIRECT: u64 = 1 << 28;
const EVENT_IDX: u64 = 1 << 29;
const VERSION_1: u64 = 1 << 32;

/// A frame with its header: to nobody, of a kind that nobody knows.
const FRAME: u64 = 0x30_0000;
const LEN: usize = 12 + 60;

/// A card on some backend.
struct Card {
    device: Box<dyn Device>,
    /// The far ends of its queue pairs, where they can be seen from here.
    wires: Vec<UnixDatagram>,
    /// Lives as long as the card.
    _beside: Box<dyn Any>,
}

fn options() -> Options {
    Options { mac: mac_for("conformance"), offload: false }
}

/// A wire for each pair, and a tap in its place.
fn wires() -> (Vec<UnixDatagram>, Tap) {
    let pair = |_| {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        (theirs, File::from(OwnedFd::from(ours)))
    };
    let (wires, queues) = (0..PAIRS).map(pair).unzip();
    (wires, Tap::fake(queues))
}

/// Which backend.
type Make = fn() -> Option<Card>;

fn userspace() -> Option<Card> {
    let (wires, tap) = wires();
    let device = Net::userspace("net.0", tap, &options(), Tuning::default());
    Some(Card { device: Box::new(device), wires, _beside: Box::new(()) })
}

fn by_process() -> Option<Card> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let socket = Scratch::new(&format!("conformance-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    let (wires, tap) = wires();
    let tap = Arc::new(tap);
    let groups = move |_: &_| -> Vec<Group> {
        let pair = |pair| Group {
            queues: vec![2 * pair, 2 * pair + 1],
            server: Box::new(Pair::elsewhere(tap.clone(), pair)) as _,
        };
        (0..PAIRS).map(pair).collect()
    };
    let peer = Peer::start(&socket, Offer::default(), groups);
    let address = Address::new(&socket);
    let device = vhost_user::net::card("net.0", address, PAIRS, &options(), Tuning::default()).unwrap();
    let (control, rings) = device.queue_sizes().split_last().unwrap();
    assert_eq!((rings, *control), (&[1024; 2 * PAIRS as usize][..], 64));
    Some(Card { device: Box::new(device), wires, _beside: Box::new((peer, socket)) })
}

/// `None`, after saying why, where the kernel has no vhost, or this user may make no tap.
fn by_kernel() -> Option<Card> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("vc{}-{}", std::process::id() % 10_000, NEXT.fetch_add(1, Ordering::Relaxed));
    let made = || -> Result<_, String> {
        let file = "/dev/vhost-net";
        File::options().read(true).write(true).open(file).map_err(|error| format!("{file}: {error}"))?;
        let queue = |_| {
            let file = tap::device()?;
            tap::take(&file, &name, TAP | NO_PI | VNET_HDR | MULTI_QUEUE)?;
            Ok(file.into_raw_fd())
        };
        let queues = (0..PAIRS).map(queue).collect::<std::io::Result<Vec<_>>>();
        let queues = queues.map_err(|error| format!("a tap: {error}"))?;
        let tap = Tap::inherit(&queues).map_err(|error| error.to_string())?;
        // Frames come to a queue whose interface is down, too: it swallows them.
        let _ = Command::new("ip").args(["link", "set", &name, "up"]).status();
        vhost::net::card("net.0", tap, &options(), Tuning::default()).map_err(|error| error.to_string())
    };
    match made() {
        Ok(device) => Some(Card { device: Box::new(device), wires: Vec::new(), _beside: Box::new(()) }),
        Err(why) => {
            use std::io::Write;
            // Past libtest's capture: what is skipped is said, as tests of whole machines say it.
            let thread = std::thread::current();
            let _ = writeln!(std::io::stderr(), "skipped {}: {why}", thread.name().unwrap_or("?"));
            None
        }
    }
}

/// A card that is up, without some features.
struct Up {
    rig: Rig,
    wires: Vec<UnixDatagram>,
    _beside: Box<dyn Any>,
}

impl Up {
    fn new(make: Make, without: u64) -> Option<Up> {
        let Card { device, wires, _beside } = make()?;
        let mut rig = Rig::new(device, false);
        rig.bring_up(64, without);
        let frame: Vec<u8> = (0..LEN).map(|i| if i < 12 { 0 } else { 0xf0 | i as u8 & 7 }).collect();
        rig.memory.write_slice(&frame, GuestAddress(FRAME)).unwrap();
        let up = Up { rig, wires, _beside };
        Some(up)
    }

    /// Offers a frame to a send queue.
    fn offer(&mut self, queue: usize) -> u16 {
        let driver = &mut self.rig.drivers[queue];
        let head = driver.chain(&[(FRAME, 12), (FRAME + 12, LEN as u32 - 12)], &[]);
        driver.offer(head);
        head
    }

    fn send(&mut self, queue: usize) {
        let head = self.offer(queue);
        self.rig.kick(queue as u64);
        assert_eq!(self.rig.wait(queue), (head, 0));
    }

    /// The next frame at the far end of a pair is the one that is sent here.
    fn arrives(&self, pair: usize) {
        if let Some(wire) = self.wires.get(pair) {
            let mut got = [0; 2000];
            assert_eq!(wire.recv(&mut got).unwrap(), LEN);
            assert_eq!(got[12], 0xf4);
        }
    }

    /// How many queue pairs carry frames; false where the device refuses.
    fn use_pairs(&mut self, pairs: u16) -> bool {
        let (command, answer) = (0x31_0000, 0x31_1000);
        let [low, high] = pairs.to_le_bytes();
        let bytes = [VIRTIO_NET_CTRL_MQ as u8, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET as u8, low, high];
        self.rig.memory.write_slice(&bytes, GuestAddress(command)).unwrap();
        let head = self.rig.drivers[CONTROL].chain(&[(command, 4)], &[(answer, 1)]);
        self.rig.drivers[CONTROL].offer(head);
        self.rig.kick(CONTROL as u64);
        assert_eq!(self.rig.wait(CONTROL), (head, 1));
        self.rig.memory.read_obj::<u8>(GuestAddress(answer)).unwrap() == VIRTIO_NET_OK as u8
    }

    /// Interrupts of a queue since the last call, once what is on its way has come.
    fn interrupts(&self, queue: usize) -> u64 {
        sleep(Duration::from_millis(20));
        self.rig.machine.raised(queue + 1)
    }
}

fn bring_up(make: Make, data_path: &str) {
    let Some(mut up) = Up::new(make, 0) else { return };
    for _ in 0..200 {
        up.send(TX[0]);
        up.arrives(0);
    }
    let counts = &up.rig.bus.lock().unwrap().counts()[0];
    assert_eq!((counts.data_path, counts.queues.len()), (data_path, 5));
}

fn what_is_agreed_was_offered(make: Make) {
    let Some(Card { device, _beside, .. }) = make() else { return };
    let rig = Rig::new(device, false);
    let offered = rig.offered();
    let needed = VERSION_1 | INDIRECT | EVENT_IDX;
    let card = 1 << VIRTIO_NET_F_MAC | 1 << VIRTIO_NET_F_MQ | 1 << VIRTIO_NET_F_CTRL_VQ;
    assert_eq!(offered & (needed | card), needed | card, "{offered:#x}");
    assert_eq!(offered & 1 << VIRTIO_NET_F_HOST_TSO4, 0, "offload=off");
    let refused = |features: u64| {
        rig.store(20, 1, 0);
        rig.store(20, 1, 1);
        rig.store(20, 1, 3);
        for half in 0..2 {
            rig.store(8, 4, half);
            rig.store(12, 4, features >> (32 * half) & 0xffff_ffff);
        }
        rig.store(20, 1, 11);
        rig.load(20, 1) & 8 == 0
    };
    assert!(refused(offered | 1 << VIRTIO_NET_F_HOST_TSO4), "what was not offered");
    assert!(refused(offered & !VERSION_1), "a legacy driver");
    assert!(!refused(offered) && !refused(VERSION_1));
}

fn indirect_or_not(make: Make) {
    for without in [0, INDIRECT] {
        let Some(mut up) = Up::new(make, without) else { return };
        let driver = &mut up.rig.drivers[TX[0]];
        let pieces = [(FRAME, 12), (FRAME + 12, 20), (FRAME + 32, LEN as u32 - 32)];
        let head = match without {
            0 => driver.indirect(0x32_0000, &pieces, &[]),
            _ => driver.chain(&pieces, &[]),
        };
        driver.offer(head);
        up.rig.kick(TX[0] as u64);
        assert_eq!(up.rig.wait(TX[0]), (head, 0));
        up.arrives(0);
    }
}

fn interrupts_come_where_they_are_wanted(make: Make) {
    // By flag: none, then one at least.
    let Some(mut up) = Up::new(make, EVENT_IDX) else { return };
    up.interrupts(TX[0]);
    up.rig.drivers[TX[0]].set_flags(1);
    (0..5).for_each(|_| up.send(TX[0]));
    assert_eq!(up.interrupts(TX[0]), 0, "not wanted");
    up.rig.drivers[TX[0]].set_flags(0);
    up.send(TX[0]);
    assert!(up.interrupts(TX[0]) >= 1);
    // By index: at the third buffer from here.
    let Some(mut up) = Up::new(make, 0) else { return };
    up.send(TX[0]);
    up.interrupts(TX[0]);
    up.rig.drivers[TX[0]].wake_after(3);
    up.send(TX[0]);
    up.send(TX[0]);
    assert_eq!(up.interrupts(TX[0]), 0, "too early");
    up.send(TX[0]);
    assert_eq!(up.interrupts(TX[0]), 1);
    assert_eq!((up.interrupts(TX[1]), up.interrupts(CONTROL)), (0, 0), "a vector for each queue");
}

fn a_reset_in_mid_request(make: Make) {
    let Some(mut up) = Up::new(make, 0) else { return };
    for _ in 0..5 {
        // Buffers to receive into stay with the device; frames to send may be anywhere.
        for _ in 0..8 {
            let head = up.rig.drivers[0].chain(&[], &[(0x40_0000, 2048)]);
            up.rig.drivers[0].offer(head);
            up.offer(TX[0]);
        }
        up.rig.kick(0);
        up.rig.kick(TX[0] as u64);
        up.rig.store(20, 1, 0);
        until(|| (up.rig.load(20, 1) == 0).then_some(()));
        // The rings are the driver's again: nobody writes to them.
        let used = up.rig.drivers[TX[0]].layout.used;
        up.rig.memory.write_slice(&[0x5a; 512], GuestAddress(used)).unwrap();
        sleep(Duration::from_millis(2));
        let mut bytes = [0; 512];
        up.rig.memory.read_slice(&mut bytes, GuestAddress(used)).unwrap();
        assert!(bytes == [0x5a; 512]);
        up.rig.bring_up(64, 0);
        up.send(TX[0]);
    }
}

fn pairs_are_used_as_the_driver_says(make: Make) {
    let Some(mut up) = Up::new(make, 0) else { return };
    assert!(up.use_pairs(2));
    for _ in 0..20 {
        for (pair, queue) in TX.into_iter().enumerate() {
            up.send(queue);
            up.arrives(pair);
        }
    }
    assert!(!up.use_pairs(0) && !up.use_pairs(3) && up.use_pairs(1) && up.use_pairs(2));
    up.send(TX[1]);
    // Without MQ there is one pair, and the control queue follows it.
    up.rig.bring_up(64, 1 << VIRTIO_NET_F_MQ);
    up.send(TX[0]);
}

fn a_ring_that_stops_goes_on_where_it_was(make: Make) {
    let Some(Card { mut device, _beside, .. }) = make() else { return };
    let memory = machine::memory();
    let mut driver = Driver::new(&memory, 0x10_0000, 16);
    let queue = |index, driver: &Driver| QueueResources {
        index,
        layout: driver.layout,
        base: 0,
        kick: Arc::new(vmm_sys_util::eventfd::EventFd::new(libc::EFD_NONBLOCK).unwrap()),
        call: Arc::new(Silent),
        memory: memory.clone(),
        counters: Arc::default(),
        fault: Arc::new(Fault::new("net.0")),
    };
    let receive = Driver::new(&memory, 0x12_0000, 16);
    let mut queues = vec![queue(0, &receive), queue(1, &driver)];
    assert!(device.backend().stop().is_empty(), "nothing was started");
    let mut sent = 0;
    // Round the ring more than once.
    for round in 0..8_u16 {
        let kick = queues[1].kick.clone();
        assert_eq!(queues[1].base, sent, "round {round}");
        device.backend().start(queues, VERSION_1).unwrap();
        for _ in 0..3 {
            let head = driver.chain(&[(FRAME, 12), (FRAME + 12, 60)], &[]);
            driver.offer(head);
            kick.write(1).unwrap();
            assert_eq!(until(|| driver.used()), (head, 0));
            sent += 1;
        }
        queues = device.backend().stop();
        queues.sort_by_key(|queue| queue.index);
        assert_eq!(queues.len(), 2);
        // What is offered meanwhile is served by the next.
        let head = driver.chain(&[(FRAME, 12), (FRAME + 12, 60)], &[]);
        driver.offer(head);
        sleep(Duration::from_millis(2));
        assert_eq!(driver.used(), None);
        let kick = queues[1].kick.clone();
        device.backend().start(queues, VERSION_1).unwrap();
        kick.write(1).unwrap();
        assert_eq!(until(|| driver.used()), (head, 0));
        queues = device.backend().stop();
        queues.sort_by_key(|queue| queue.index);
        sent += 1;
    }
    assert!(device.backend().stop().is_empty(), "it has stopped");
}

/// The suite for one backend.
macro_rules! suite {
    ($name:ident, $make:path, $data_path:literal) => {
        mod $name {
            #[test]
            fn bring_up() {
                super::bring_up($make, $data_path);
            }
            #[test]
            fn what_is_agreed_was_offered() {
                super::what_is_agreed_was_offered($make);
            }
            #[test]
            fn indirect_or_not() {
                super::indirect_or_not($make);
            }
            #[test]
            fn interrupts_come_where_they_are_wanted() {
                super::interrupts_come_where_they_are_wanted($make);
            }
            #[test]
            fn a_reset_in_mid_request() {
                super::a_reset_in_mid_request($make);
            }
            #[test]
            fn pairs_are_used_as_the_driver_says() {
                super::pairs_are_used_as_the_driver_says($make);
            }
            #[test]
            fn a_ring_that_stops_goes_on_where_it_was() {
                super::a_ring_that_stops_goes_on_where_it_was($make);
            }
        }
    };
}

suite!(userspace_backend, super::userspace, "userspace");
suite!(vhost_kernel_backend, super::by_kernel, "vhost-kernel");
suite!(vhost_user_backend, super::by_process, "vhost-user");
