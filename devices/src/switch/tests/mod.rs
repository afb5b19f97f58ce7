//! Whole switches with front ends played in Rust.

mod front;
mod hostile;
mod offloads;

use std::os::unix::net::UnixListener;
use std::time::Duration;

use front::{Front, SIZE, soon};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_net::*;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

use super::*;

/// What the drivers of these tests can do with any switch.
const PLAIN: u64 = 1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_RING_F_EVENT_IDX | 1 << VIRTIO_RING_F_INDIRECT_DESC;
const MERGEABLE: u64 = PLAIN | 1 << VIRTIO_NET_F_MRG_RXBUF;

/// A switch and the paths of its sockets, which go with it.
struct Bench {
    switch: Option<Switch>,
    paths: Vec<String>,
}

impl Bench {
    fn new(ports: usize, workers: usize, full: Full) -> Bench {
        Bench::polling(ports, workers, full, Duration::ZERO)
    }

    /// Its workers poll for so long before they sleep.
    fn polling(ports: usize, workers: usize, full: Full, busy_poll: Duration) -> Bench {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir();
        let path = |port| format!("{}/vmm-switch-{}-{number}-{port}", folder.display(), std::process::id());
        let paths: Vec<String> = (0..ports).map(path).collect();
        let listen = |path: &String| (path.clone(), UnixListener::bind(path).unwrap());
        let plan = Plan {
            ports: paths.iter().map(listen).collect(),
            workers: (0..workers).map(|_| Box::new(|| ()) as _).collect(),
            busy_poll,
            full,
            age: Duration::from_secs(300),
        };
        Bench { switch: Some(Switch::start(plan).unwrap()), paths }
    }

    fn counts(&self) -> SwitchCounts {
        self.switch.as_ref().unwrap().counts()
    }

    /// The counts, once they are so.
    fn settled(&self, so: impl Fn(&SwitchCounts) -> bool) -> SwitchCounts {
        soon(|| Some(self.counts()).filter(&so))
    }

    fn fronts(&self, features: u64) -> Vec<Front> {
        self.paths.iter().map(|path| Front::run(path, features, 1)).collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.switch = None;
        self.paths.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    }
}

/// A frame between two stations, 64 bytes long, that carries `mark`.
fn frame(to: u8, from: u8, mark: u8) -> Vec<u8> {
    let mut frame = vec![mark; 64];
    frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from]);
    frame[12..14].copy_from_slice(&[0x81, 0x00]);
    frame
}

const ALL: [u8; 6] = [0xff; 6];

#[test]
fn frames_arrive_whole_and_in_order_across_the_wrap() {
    let bench = Bench::new(2, 1, Full::Drop);
    let mut fronts = bench.fronts(MERGEABLE);
    for round in 0..200_u8 {
        let (a, b) = (usize::from(round % 2), usize::from(1 - round % 2));
        let mut sent = frame(b as u8, a as u8, round);
        sent.resize(64 + 7 * usize::from(round), round);
        fronts[b].post(0, &[2048], 1);
        let header = [0; 12];
        match round % 3 {
            0 => fronts[a].send(&sent),
            1 => fronts[a].send_parts(0, header, &sent, &[12]),
            _ => fronts[a].send_parts(0, header, &sent, &[5, 20, 1]),
        }
        let (header, arrived) = soon(|| fronts[b].arrived(0));
        assert_eq!((arrived, u16::from_le_bytes([header[10], header[11]])), (sent, 1));
        fronts[a].sent(0, 1);
    }
    let counts = bench.counts();
    let [a, b] = [&counts.ports[0], &counts.ports[1]].map(|port| port.pairs[0]);
    assert_eq!((a.send.packets, b.receive.packets, b.send.packets, a.receive.packets), (100, 100, 100, 100));
    assert_eq!(a.send.bytes, b.receive.bytes);
    assert_eq!(a.send.batches.iter().sum::<u64>(), 100);
    assert_eq!((a.send.kicks, a.receive.kicks), (100, 100), "as their event fds have counted");
    assert!(b.receive.interrupts > 0);
    assert_eq!((a.send.drops.total(), counts.ports[0].errors), (0, 0));
}

#[test]
fn a_long_frame_takes_as_many_buffers_as_it_needs() {
    let bench = Bench::new(2, 1, Full::Drop);
    let mut fronts = bench.fronts(MERGEABLE);
    let mut long = frame(1, 0, 7);
    long.resize(9000, 8);
    fronts[1].post(0, &[1000, 536], 10);
    fronts[0].send(&long);
    let (header, arrived) = soon(|| fronts[1].arrived(0));
    assert_eq!((u16::from_le_bytes([header[10], header[11]]), arrived), (6, long));
    assert_eq!(bench.counts().ports[1].pairs[0].receive.chains, 6);
}

#[test]
fn one_interrupt_for_a_batch() {
    for features in [MERGEABLE, MERGEABLE & !(1 << VIRTIO_RING_F_EVENT_IDX)] {
        let bench = Bench::new(2, 1, Full::Wait);
        let mut fronts = bench.fronts(features);
        // The first finds no buffer and stays; the rest come meanwhile.
        for mark in 0..16 {
            fronts[0].send(&frame(1, 0, mark));
        }
        fronts[1].post(0, &[2048], 16);
        for mark in 0..16 {
            assert_eq!(fronts[1].receive(), frame(1, 0, mark));
        }
        let counts = bench.settled(|counts| counts.ports[1].pairs[0].receive.packets == 16);
        let receive = counts.ports[1].pairs[0].receive;
        assert!(receive.interrupts < 16, "{receive:?}");
        assert_eq!(receive.drops.total(), 0);
        // Asked for kicks while it was starved, and for none since; by an event nothing has to be said.
        let hushed = u16::from(features & 1 << VIRTIO_RING_F_EVENT_IDX == 0);
        assert_eq!(fronts[1].pairs[0].receive.used_flags(), hushed);
    }
}

#[test]
fn addresses_are_learned_and_strangers_flooded() {
    let bench = Bench::new(4, 2, Full::Drop);
    let mut fronts = bench.fronts(MERGEABLE);
    fronts.iter_mut().for_each(|front| front.post(0, &[2048], 32));
    // Nobody knows station 3 yet; a broadcast goes to all by its nature.
    let mut to_all = frame(9, 0, 2);
    to_all[..6].copy_from_slice(&ALL);
    for sent in [frame(3, 0, 1), to_all] {
        fronts[0].send(&sent);
        for other in &mut fronts[1..] {
            assert_eq!(other.receive(), sent);
        }
    }
    fronts[3].send(&frame(0, 3, 3));
    assert_eq!(fronts[0].receive(), frame(0, 3, 3));
    fronts[1].send(&frame(3, 1, 4));
    assert_eq!(fronts[3].receive(), frame(3, 1, 4));
    // It moves, and is found where it is now.
    fronts[2].send(&frame(0, 3, 5));
    assert_eq!(fronts[0].receive(), frame(0, 3, 5));
    fronts[1].send(&frame(3, 1, 6));
    assert_eq!(fronts[2].receive(), frame(3, 1, 6));
    // For a station on the sender's own side there is nothing to do.
    fronts[2].send(&frame(3, 3, 7));
    let counts = bench.settled(|counts| counts.ports[2].pairs[0].send.drops.unknown_port == 1);
    assert_eq!(counts.ports.iter().map(|port| port.addresses).collect::<Vec<_>>(), [1, 1, 1, 0]);
    assert!(fronts.iter_mut().all(|front| front.arrived(0).is_none()));
}

#[test]
fn queues_of_one_number_meet_and_the_rest_wrap() {
    let bench = Bench::new(2, 2, Full::Drop);
    let mut many = Front::run(&bench.paths[0], MERGEABLE, 3);
    let mut few = Front::run(&bench.paths[1], MERGEABLE, 2);
    (0..2).for_each(|pair| few.post(pair, &[2048], 32));
    for pair in 0..3_u8 {
        for mark in 0..5 {
            many.send_parts(pair.into(), [0; 12], &frame(1, 50 + pair, 10 * pair + mark), &[]);
        }
        let at = usize::from(pair % 2);
        for mark in 0..5 {
            assert_eq!(soon(|| few.arrived(at)).1[14], 10 * pair + mark, "in order");
        }
    }
    let pairs = &bench.counts().ports[1].pairs;
    assert_eq!(pairs.iter().map(|pair| pair.receive.packets).collect::<Vec<_>>(), [10, 5]);
}

#[test]
fn a_full_receiver_costs_frames_or_paces_its_sender() {
    for full in [Full::Drop, Full::Wait] {
        let bench = Bench::new(3, 1, full);
        let mut fronts = bench.fronts(MERGEABLE);
        fronts[2].post(0, &[2048], 8);
        // Both receivers become known.
        for (i, station) in [(1, 1), (2, 2)] {
            fronts[i].send(&frame(9, station, 0));
        }
        bench.settled(|counts| counts.ports[1].addresses + counts.ports[2].addresses == 2);
        for mark in 0..4 {
            fronts[0].send(&frame(1, 0, mark));
        }
        if full == Full::Drop {
            fronts[0].sent(0, 4);
            // One of the first two had been flooded to it, too.
            assert_eq!(bench.counts().ports[1].pairs[0].receive.drops.no_buffer, 5);
            continue;
        }
        // Others are served meanwhile.
        fronts[1].send(&frame(2, 1, 5));
        soon(|| fronts[2].arrived(0).filter(|(_, frame)| frame[14] == 5));
        fronts[1].post(0, &[2048], 8);
        let arrived: Vec<u8> = (0..4).map(|_| fronts[1].receive()[14]).collect();
        assert_eq!(arrived, [0, 1, 2, 3]);
        fronts[0].sent(0, 4);
        // Who takes nothing at all is waited for no longer than a while.
        for mark in 0..12 {
            fronts[0].send(&frame(1, 0, mark));
        }
        fronts[0].sent(0, 12);
        // Four buffers were left, and the first flood had found none.
        assert_eq!(bench.counts().ports[1].pairs[0].receive.drops.no_buffer, 12 - 4 + 1);
    }
}

#[test]
fn a_receiver_that_is_waited_for_is_asked_for_kicks_by_who_sleeps_only() {
    for (busy_poll, features) in [
        (Duration::from_secs(3600), MERGEABLE & !(1 << VIRTIO_RING_F_EVENT_IDX)),
        (Duration::ZERO, MERGEABLE),
    ] {
        let bench = Bench::polling(2, 1, Full::Wait, busy_poll);
        let mut fronts = bench.fronts(features);
        (0..4).for_each(|mark| fronts[0].send(&frame(1, 0, mark)));
        if busy_poll > Duration::ZERO {
            let empty = bench.counts().workers[0].empty_rounds;
            bench.settled(|counts| counts.workers[0].empty_rounds > empty + 100);
            assert_eq!(fronts[1].pairs[0].receive.used_flags(), 1, "no kicks");
        } else {
            // For a few, of which the ring has room for twice as many: not for each.
            soon(|| Some(()).filter(|()| fronts[1].pairs[0].receive.kick_wanted_at() == SIZE / 2 - 1));
        }
        fronts[1].post(0, &[2048], 4);
        (0..4).for_each(|mark| assert_eq!(fronts[1].receive(), frame(1, 0, mark)));
        assert_eq!(bench.counts().ports[1].pairs[0].receive.drops.total(), 0);
    }
}

#[test]
fn a_long_frame_waits_for_all_the_buffers_that_it_needs() {
    let bench = Bench::new(2, 1, Full::Wait);
    let mut fronts = bench.fronts(MERGEABLE);
    let mut long = frame(1, 0, 7);
    long.resize(9000, 8);
    fronts[1].post(0, &[1536], 2);
    fronts[0].send(&long);
    bench.settled(|counts| counts.workers[0].sleeps > 5);
    assert_eq!(fronts[1].arrived(0), None);
    fronts[1].post(0, &[1536], 4);
    assert_eq!(fronts[1].receive(), long);
    assert_eq!(bench.counts().ports[1].pairs[0].receive.drops.total(), 0);
}

#[test]
fn a_machine_that_restarts_goes_on_and_the_others_do_not_notice() {
    let bench = Bench::new(3, 1, Full::Drop);
    let mut fronts = bench.fronts(MERGEABLE);
    fronts.iter_mut().for_each(|front| front.post(0, &[2048], 32));
    fronts[1].send(&frame(9, 1, 0));
    assert_eq!(fronts[0].receive(), frame(9, 1, 0));
    drop(fronts.remove(1));
    let counts = bench.settled(|counts| !counts.ports[1].connected && counts.ports[1].addresses == 0);
    assert_eq!(counts.ports[1].errors, 0, "it only went");
    fronts[0].send(&frame(2, 0, 1));
    soon(|| fronts[1].arrived(0).filter(|(_, frame)| frame[14] == 1));
    let mut again = Front::run(&bench.paths[1], PLAIN, 1);
    again.post(0, &[2048], 4);
    again.send(&frame(0, 1, 2));
    assert_eq!(fronts[0].receive(), frame(0, 1, 2));
    fronts[0].send(&frame(1, 0, 3));
    assert_eq!(again.receive(), frame(1, 0, 3));
    assert_eq!(bench.counts().ports[1].connections, 2);
}

#[test]
fn a_ring_stops_and_goes_on_where_it_was() {
    let bench = Bench::new(2, 1, Full::Drop);
    let mut fronts = bench.fronts(MERGEABLE);
    fronts[1].post(0, &[2048], 20);
    for mark in 0..10 {
        fronts[0].send(&frame(1, 0, mark));
    }
    fronts[0].sent(0, 10);
    assert_eq!(fronts[0].stop_ring(1), 10);
    assert_eq!(fronts[1].stop_ring(0), 10, "what was taken and not used is not lost");
    fronts[0].send(&frame(1, 0, 10));
    fronts[1].start_ring(0, 10);
    fronts[0].start_ring(1, 10);
    for mark in 0..=10 {
        assert_eq!(fronts[1].receive(), frame(1, 0, mark));
    }
    // The memory table comes again while the rings run.
    let region =
        crate::vhost_user::message::Region { guest: 0, size: front::MEMORY, user: front::USER, offset: 0 };
    let table = crate::vhost_user::message::Request::SetMemTable(vec![region]);
    assert_eq!(fronts[1].ask(table, &[fronts[1].file.as_fd()]).unwrap(), 0);
    fronts[0].send(&frame(1, 0, 11));
    assert_eq!(fronts[1].receive(), frame(1, 0, 11));
}

#[test]
fn what_has_no_place() {
    let bench = Bench::new(2, 1, Full::Drop);
    let mut small = Front::run(&bench.paths[0], PLAIN, 1);
    let mut large = Front::run(&bench.paths[1], MERGEABLE, 1);
    small.post(0, &[100], 4);
    let mut long = frame(0, 1, 1);
    long.resize(200, 1);
    large.send(&long);
    large.send(&frame(0, 1, 2));
    assert_eq!(small.receive(), frame(0, 1, 2), "the buffer was kept for the next");
    // All the buffers that the ring has are not enough.
    large.post(0, &[64], SIZE.into());
    small.send(&[&frame(1, 0, 3)[..], &[0; 64 * 64]].concat());
    small.send(&frame(1, 0, 4));
    assert_eq!(large.receive(), frame(1, 0, 4));
    // Longer than any frame is.
    small.send(&vec![2; 65_559]);
    small.send(&[2; 13]);
    let mut header = [0; 12];
    header[..10].copy_from_slice(&[1, 0, 0, 0, 0, 0, 60, 0, 16, 0]);
    small.send_parts(0, header, &frame(1, 0, 5), &[]);
    let counts = bench.settled(|counts| counts.ports[0].pairs[0].send.packets == 5);
    let [a, b] = [&counts.ports[0].pairs[0], &counts.ports[1].pairs[0]];
    assert_eq!((a.receive.drops.too_large, b.receive.drops.too_large), (1, 1));
    assert_eq!((a.send.drops.too_large, a.send.drops.malformed), (1, 2));
}

#[test]
fn the_last_batch_is_in_the_counts_of_a_switch_without_peers() {
    let bench = Bench::new(2, 1, Full::Drop);
    let mut lonely = Front::run(&bench.paths[0], PLAIN, 1);
    lonely.send(&frame(1, 0, 0));
    let counts = bench.settled(|counts| counts.ports[0].pairs.first().is_some_and(|p| p.send.packets == 1));
    assert_eq!(counts.ports[0].pairs[0].send.drops.unknown_port, 1);
    drop(lonely);
    let counts = bench.settled(|counts| !counts.ports[0].connected);
    assert_eq!(counts.ports[0].pairs[0].send.kicks, 1, "the fd's count was taken when it went");
}
