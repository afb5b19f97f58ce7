//! A disk whose peer is played here: one that serves, dies and comes back, and many that do worse.

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

/// A peer whose every connection is met by `act`, with its number; the rest of the time it only listens.
struct Rogue(Arc<AtomicBool>, Option<JoinHandle<()>>);

impl Rogue {
    fn start(socket: &Path, act: impl Fn(&Channel, u32) -> Result<(), PeerError> + Send + 'static) -> Rogue {
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = stop.clone();
        let thread = spawn(move || {
            let mut connections = 0;
            while !stopping.load(Ordering::Acquire) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let channel = Channel::new(stream, Duration::from_secs(1)).unwrap();
                        // What it runs into is its own affair.
                        let _ = act(&channel, connections);
                        connections += 1;
                    }
                    Err(_) => sleep(Duration::from_millis(1)),
                }
            }
        });
        Rogue(stop, Some(thread))
    }
}

impl Drop for Rogue {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
        if let Some(thread) = self.1.take() {
            thread.join().unwrap();
        }
    }
}

/// Answers like an honest peer without queues, except to `code`: there `act` does what it does.
fn honest_but(
    channel: &Channel,
    offer: &Offer,
    code: Code,
    act: impl Fn(&Channel) -> Result<(), PeerError>,
) -> Result<(), PeerError> {
    honest_unless(channel, offer, |asked| if asked == code { act(channel).map(|()| true) } else { Ok(false) })
}

/// The same, except where `acts` says that it has done what there was to do.
fn honest_unless(
    channel: &Channel,
    offer: &Offer,
    acts: impl Fn(Code) -> Result<bool, PeerError>,
) -> Result<(), PeerError> {
    loop {
        let message = channel.receive()?;
        let asked = message.request()?.code();
        if acts(asked)? {
            continue;
        }
        let number = match asked {
            Code::GetFeatures => offer.features,
            Code::GetProtocolFeatures => offer.protocol,
            Code::GetQueueNum => offer.queues,
            Code::GetConfig | Code::GetVringBase => {
                channel.answer(asked, &message.payload, &[])?;
                continue;
            }
            _ if message.header.need_reply => 0,
            _ => continue,
        };
        channel.answer(asked, &number.to_ne_bytes(), &[])?;
    }
}

fn refusal(name: &str, act: impl Fn(&Channel) -> Result<(), PeerError> + Send + 'static) -> String {
    let socket = Scratch::new(name);
    let _rogue = Rogue::start(&socket, move |channel, _| act(channel));
    let error = Disk::open("blk.0", address(&socket), 2, &Tuning::default()).map(|_| ()).unwrap_err();
    let text = error.to_string();
    let start = format!("use vhost-user socket {}: ", socket.display());
    text.strip_prefix(&start).unwrap_or_else(|| panic!("{text}")).into()
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
fn a_peer_that_lies_about_what_it_can_do() {
    let lie = |name: &str, change: fn(&mut Offer)| {
        let mut offer = Offer::default();
        change(&mut offer);
        refusal(name, move |channel| honest_but(channel, &offer, Code::GetStatus, |_| Ok(())))
    };
    let text = lie("legacy", |offer| offer.features &= !(1 << 32));
    assert_eq!(text, "the peer does not offer VIRTIO_F_VERSION_1");
    let text = lie("queues", |offer| offer.queues = 1);
    assert_eq!(text, "the peer serves 1 queues, 2 were asked");
    let text = lie("single", |offer| offer.protocol &= !protocol::MQ);
    assert_eq!(text, "the peer serves 1 queues, 2 were asked");
    let text = lie("bare", |offer| offer.protocol &= !protocol::CONFIG);
    assert_eq!(text, "the peer does not offer VHOST_USER_PROTOCOL_F_CONFIG");
    let text = lie("plain", |offer| offer.features &= !F_PROTOCOL);
    assert_eq!(text, "the peer serves 1 queues, 2 were asked");
}

type Act = fn(&Channel) -> Result<(), PeerError>;

#[test]
fn a_peer_that_closes_stalls_or_talks_nonsense_at_any_question() {
    let cases: [(&str, Act, &str); 7] = [
        ("closes", |_| Err(PeerError::Closed), "the peer closed the connection"),
        ("stalls", |_| Ok(()), "the peer did not answer within 0.3 s"),
        ("other", |c| c.answer(Code::SetMemTable, &[0; 8], &[]), "the peer answered something else"),
        ("short", |c| c.answer(Code::GetFeatures, &[0; 3], &[]), "something else"),
        ("asks", |c| c.ask(&Request::GetStatus, false, &[]), "something else"),
        ("fds", |c| c.ask(&Request::SetOwner, false, &[c.as_fd(); MOST_REGIONS + 1]), "more than 8 file"),
        ("cut", |c| c.send_raw(&[1, 0, 0, 0, 5]).and(Err(PeerError::Cut)), "in the middle of a message"),
    ];
    let codes = [Code::GetFeatures, Code::GetProtocolFeatures, Code::GetQueueNum, Code::SetOwner];
    for (name, act, says) in cases {
        for code in codes {
            let offer = Offer::default();
            let text =
                refusal(&format!("{name}-{code:?}"), move |channel| honest_but(channel, &offer, code, act));
            assert!(text.contains(says), "{name} at {code:?}: {text}");
        }
    }
    let text = refusal("garbage", |channel| {
        channel.send_raw(&[0xff; 64])?;
        // Who closes at once may be found gone before the garbage is read.
        loop {
            channel.receive()?;
        }
    });
    assert!(text.ends_with(&MessageError::Version(3).to_string()), "{text}");
    let text = refusal("config", |channel| {
        honest_but(channel, &Offer::default(), Code::GetConfig, |c| c.answer(Code::GetConfig, &[], &[]))
    });
    assert_eq!(text, "GetConfig: the peer answered something else");
    let text = refusal("no", |channel| {
        honest_but(channel, &Offer::default(), Code::SetOwner, |c| c.answer(Code::SetOwner, &[1; 8], &[]))
    });
    assert!(text.starts_with("SetOwner: the peer refused it"), "{text}");
}

/// One that keeps no notes of what it holds, as [`honest_but`] has none, but where it is asked for them.
fn offers(code: Code) -> Offer {
    let mut offer = Offer::default();
    if code != Code::GetInflightFd {
        offer.protocol &= !protocol::INFLIGHT_SHMFD;
    }
    offer
}

#[test]
fn a_peer_that_stalls_holds_up_nobody() {
    let socket = Scratch::new("stalls");
    for code in [
        Code::SetFeatures,
        Code::SetMemTable,
        Code::GetInflightFd,
        Code::SetVringNum,
        Code::SetVringBase,
        Code::SetVringAddr,
        Code::SetVringCall,
        Code::SetVringKick,
        Code::SetVringEnable,
        Code::GetVringBase,
    ] {
        let asked = Arc::new(AtomicBool::new(false));
        let stalls = asked.clone();
        let _rogue = Rogue::start(&socket, move |channel, _| {
            honest_but(channel, &offers(code), code, |_| {
                stalls.store(true, Ordering::Release);
                Ok(())
            })
        });
        // Whoever waited for it would never come back.
        let address = Address { socket: socket.to_path_buf(), patience: Duration::from_secs(3600) };
        let disk = Disk::open("blk.0", address, 1, &Tuning::default()).unwrap();
        let mut rig = Rig::new(Box::new(disk), false);
        rig.bring_up(16, HINTS);
        offer(&mut rig, 0);
        if code != Code::GetVringBase {
            until(|| asked.load(Ordering::Acquire).then_some(()));
            assert_eq!(rig.load(20, 1), 15, "{code:?}");
            rig.store(20, 1, 0);
        } else {
            // As soon as the peer has them.
            rig.store(20, 1, 0);
            while rig.load(20, 1) == 0 {
                rig.bring_up(16, HINTS);
                sleep(Duration::from_millis(1));
                rig.store(20, 1, 0);
            }
            until(|| asked.load(Ordering::Acquire).then_some(()));
        }
        assert_eq!(rig.load(20, 1), 15, "the reset is not complete: {code:?}");
        rig.bus.lock().unwrap().quiesce();
    }
}

#[test]
fn a_reset_is_complete_when_the_peer_has_answered_or_is_lost() {
    let socket = Scratch::new("slow-reset");
    for answers in [true, false] {
        let (told, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (tells, asks) = (told.clone(), asked.clone());
        let _rogue = Rogue::start(&socket, move |channel, connection| {
            if connection > 0 {
                return Ok(());
            }
            honest_unless(channel, &offers(Code::GetVringBase), |code| {
                tells.fetch_or(code == Code::SetVringEnable, Ordering::AcqRel);
                let stalls = code == Code::GetVringBase;
                if stalls {
                    asks.store(true, Ordering::Release);
                    sleep(if answers { Duration::from_millis(150) } else { Duration::ZERO });
                }
                Ok(stalls && !answers)
            })
        });
        let mut rig = disk(&socket, 1);
        until(|| told.load(Ordering::Acquire).then_some(()));
        rig.store(20, 1, 0);
        assert_eq!(rig.load(20, 1), 15);
        until(|| (rig.load(20, 1) == 0).then_some(()));
        assert!(asked.load(Ordering::Acquire));
        rig.bring_up(16, HINTS);
    }
}

#[test]
fn a_peer_that_turns_bad_later_is_given_up_and_nothing_is_lost() {
    let socket = Scratch::new("later-bad");
    for code in [Code::SetMemTable, Code::GetInflightFd, Code::SetVringKick, Code::SetVringEnable] {
        let rogue = Rogue::start(&socket, move |channel, connection| {
            if connection > 0 {
                return Ok(());
            }
            honest_but(channel, &offers(code), code, |_| Ok(()))
        });
        let mut rig = disk(&socket, 1);
        let head = offer(&mut rig, 0);
        assert_eq!(rig.load(20, 1), 15, "the driver waits: {code:?}");
        // The device is reset all the same, and an honest peer finds it ready.
        drop(rogue);
        let _peer = Peer::start(&socket, Offer::default(), ones(1));
        assert_eq!(rig.wait(0), (head, 64), "{code:?}");
        rig.bring_up(16, HINTS);
        ask(&mut rig, 0);
    }
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
