//! A card behind its transport; a pair of datagram sockets is the wire.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::testing::bringup::{Rig, until};
use crate::testing::hostile;
use crate::testing::made::Made;

const RX: usize = 0;
const TX: usize = 1;
const CONTROL: usize = 2;

fn rig(size: u16, without: u64) -> (Rig, UnixDatagram) {
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let tap = Tap::fake(vec![File::from(OwnedFd::from(ours))]);
    let options = Options { mac: mac_for("tap0"), offload: false };
    let mut rig = Rig::new(Box::new(Net::userspace("net.0", tap, &options, Tuning::default())), false);
    rig.bring_up(size, without | 1 << 29);
    (rig, theirs)
}

fn offer(rig: &mut Rig, count: u64, len: u32) {
    for i in 0..count {
        let head = rig.drivers[RX].chain(&[], &[(0x20_0000 + 0x1_0000 * i, len)]);
        rig.drivers[RX].offer(head);
    }
    rig.kick(RX as u64);
}

/// A frame with its header in front.
fn frame(len: usize) -> Vec<u8> {
    (0..HEADER + len).map(|i| if i < HEADER { 0 } else { i as u8 }).collect()
}

#[test]
fn frames_go_out_whole() {
    let (mut rig, wire) = rig(64, 0);
    let frame = frame(1000);
    rig.memory.write_slice(&frame, GuestAddress(0x30_0000)).unwrap();
    for _ in 0..100 {
        let head = rig.drivers[TX].chain(&[(0x30_0000, 12), (0x30_000c, 500), (0x30_0200, 500)], &[]);
        rig.drivers[TX].offer(head);
        rig.kick(TX as u64);
        let mut got = [0; 2000];
        assert_eq!(wire.recv(&mut got).unwrap(), 1012);
        assert!(got[..1012] == frame);
        assert_eq!(rig.wait(TX), (head, 0));
    }
}

#[test]
fn a_frame_takes_as_many_buffers_as_it_needs() {
    let (mut rig, wire) = rig(16, 0);
    offer(&mut rig, 8, 600);
    wire.send(&frame(1400)).unwrap();
    let used: Vec<_> = (0..3).map(|_| rig.wait(RX)).collect();
    assert_eq!(used.iter().map(|u| u.1).collect::<Vec<_>>(), [600, 600, 212]);
    assert_eq!(rig.memory.read_obj::<u16>(GuestAddress(0x20_0000 + 10)).unwrap(), 3);
    // The rest are there for the next frame, and no buffer is skipped.
    wire.send(&frame(100)).unwrap();
    assert_eq!(rig.wait(RX), (used[2].0 + 1, 112));
    let mut got = [0; 112];
    rig.memory.read_slice(&mut got, GuestAddress(0x23_0000)).unwrap();
    assert!(got[12..] == frame(100)[12..] && got[10..12] == [1, 0]);
}

#[test]
fn a_frame_waits_for_buffers_and_comes_once_they_are_there() {
    for without in [0, 1 << VIRTIO_NET_F_MRG_RXBUF] {
        let (mut rig, wire) = rig(16, without);
        wire.send(&frame(64)).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(rig.drivers[RX].used(), None);
        offer(&mut rig, 3, 1600);
        assert_eq!(rig.wait(RX).1, 76);
        rig.bus.lock().unwrap().quiesce();
        let counts = rig.bus.lock().unwrap().counts()[0].clone();
        assert_eq!((counts.queues[RX].chains, counts.queues[RX].bytes), (1, 64));
    }
}

#[test]
fn a_ring_smaller_than_the_longest_frame_still_receives() {
    let (mut rig, wire) = rig(2, 0);
    offer(&mut rig, 2, 200);
    wire.send(&frame(300)).unwrap();
    assert_eq!((rig.wait(RX).1, rig.wait(RX).1), (200, 112));
}

#[test]
fn idle_with_buffers_it_sleeps_and_wants_no_kick() {
    let (mut rig, wire) = rig(16, 0);
    offer(&mut rig, 16, 1600);
    wire.send(&frame(64)).unwrap();
    rig.wait(RX);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(rig.drivers[RX].used_flags(), 1, "no kick: it has enough");
    assert_eq!(rig.drivers[TX].used_flags(), 0, "a kick: nothing is there");
}

/// A command on the control queue, and what was answered.
fn command(rig: &mut Rig, command: &[u8]) -> u8 {
    rig.memory.write_slice(command, GuestAddress(0x30_0000)).unwrap();
    let head = rig.drivers[CONTROL].chain(&[(0x30_0000, command.len() as u32)], &[(0x30_8000, 1)]);
    rig.drivers[CONTROL].offer(head);
    rig.kick(CONTROL as u64);
    assert_eq!(rig.wait(CONTROL), (head, 1));
    rig.memory.read_obj::<u8>(GuestAddress(0x30_8000)).unwrap()
}

#[test]
fn control_answers_what_it_can_and_refuses_the_rest() {
    let (mut rig, _wire) = rig(16, 0);
    let all_multicast = [0, 1, 1];
    assert_eq!(command(&mut rig, &all_multicast), 0);
    let long = [&[1, 0][..], &[0; 4097]].concat();
    for refused in
        [&[4, 0, 1, 0][..], &[5, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[0, 0, 2], &[], &[0], &[9, 9], &[3, 0], &long]
    {
        assert_eq!(command(&mut rig, refused), 1, "{refused:?}");
    }
    // What was not negotiated is refused too.
    rig.bring_up(16, 1 << 29 | 1 << VIRTIO_NET_F_CTRL_RX | 1 << VIRTIO_NET_F_CTRL_MAC_ADDR);
    assert_eq!(command(&mut rig, &all_multicast), 1);
    assert_eq!(command(&mut rig, &[1, 1, 2, 0, 0, 0, 0, 9]), 1);
}

#[test]
fn the_driver_gets_the_frames_that_it_wants() {
    let (mut rig, wire) = rig(16, 0);
    offer(&mut rig, 8, 2000);
    let mac = [2, 0, 0, 0, 0, 9];
    let generation = rig.load(21, 1);
    assert_eq!(command(&mut rig, &[&[1, 1][..], &mac].concat()), 0);
    assert_ne!(rig.load(21, 1), generation);
    assert_eq!(rig.load(0x800, 4), 2, "its address is what the driver has set");
    assert_eq!(rig.load(0x804, 2), 0x900);
    let to = |mac: [u8; 6]| [&[0; HEADER][..], &mac, &[7; 60]].concat();
    wire.send(&to([4; 6])).unwrap();
    assert_eq!(rig.wait(RX).1, 78, "every frame, until the driver says otherwise");
    assert_eq!(command(&mut rig, &[0, 0, 0]), 0);
    for frame in [to([4; 6]), to(mac), to([4; 6]), to([0xff; 6])] {
        wire.send(&frame).unwrap();
    }
    assert_eq!([rig.wait(RX).1, rig.wait(RX).1], [78, 78]);
    let mut got = [0; 6];
    rig.memory.read_slice(&mut got, GuestAddress(0x21_0000 + HEADER as u64)).unwrap();
    assert_eq!(got, mac, "a frame that nobody wants takes no buffer");
    rig.bus.lock().unwrap().quiesce();
    let counts = rig.bus.lock().unwrap().counts().swap_remove(0);
    let rows: Vec<_> = counts.operations.iter().map(|row| (row.name, row.count, row.bytes)).collect();
    assert_eq!(rows, [("receive", 3, 3 * 66), ("unwanted", 2, 2 * 66)]);
    assert!(counts.operations[0].ns_max > 0);
    // The next driver finds the address that the card was given.
    rig.store(20, 1, 0);
    rig.load(21, 1);
    assert_eq!(rig.load(0x800, 8).to_le_bytes()[..6], mac_for("tap0"));
}

#[test]
fn whatever_the_driver_does_it_serves_again() {
    let (rig, wire) = rig(16, 0);
    hostile::play(rig, |rig| {
        let head = rig.drivers[TX].chain(&[(0x30_0000, 900)], &[]);
        rig.drivers[TX].offer(head);
        rig.kick(TX as u64);
        assert_eq!(rig.wait(TX), (head, 0));
        // What the hostile driver has sent is before it.
        let mut got = [0; 2000];
        while wire.recv(&mut got).unwrap() != 900 {}
        let head = rig.drivers[RX].chain(&[], &[(0x20_0000, 2000)]);
        rig.drivers[RX].offer(head);
        rig.kick(RX as u64);
        wire.send(&frame(100)).unwrap();
        assert_eq!(rig.wait(RX), (head, 112));
    });
}

#[test]
fn buffers_the_wrong_way_round_carry_nothing() {
    let (mut rig, wire) = rig(16, 0);
    for (out, into) in
        [(&[][..], &[(0x30_0000, 900)][..]), (&[(0x30_0000, 0)], &[]), (&[(0x30_0000, 5)], &[])]
    {
        let head = rig.drivers[TX].chain(out, into);
        rig.drivers[TX].offer(head);
        rig.kick(TX as u64);
        assert_eq!(rig.wait(TX), (head, 0));
    }
    // Neither a buffer that can't be written nor one without room for a header takes a frame.
    for (out, into) in [(&[(0x20_0000, 900)][..], &[][..]), (&[], &[(0x20_0000, 11)])] {
        let head = rig.drivers[RX].chain(out, into);
        rig.drivers[RX].offer(head);
    }
    offer(&mut rig, 2, 2000);
    wire.send(&frame(100)).unwrap();
    assert_eq!([0, 1, 2].map(|_| rig.wait(RX).1), [0, 0, 112]);
}

#[test]
fn the_link_is_up_as_long_as_the_tap_is() {
    let Some(made) = Made::new("l", &["tap"]) else { return };
    let tap = Tap::open(&made.0, 1).unwrap();
    assert!(!tap.is_up());
    let options = Options { mac: mac_for("tap0"), offload: true };
    let mut rig = Rig::new(Box::new(Net::userspace("net.0", tap, &options, Tuning::default())), false);
    rig.bring_up(16, 0);
    let mut told = 0;
    for (word, status) in [("up", 1), ("down", 0), ("up", 1)] {
        let generation = rig.load(21, 1);
        assert_eq!(rig.load(0x806, 2), 1 - status);
        made.set(word);
        until(|| {
            told += rig.machine.raised(0);
            (told > 0).then_some(())
        });
        assert_eq!(std::mem::take(&mut told), 1, "once, by the interrupt of the configuration");
        assert_ne!(rig.load(21, 1), generation);
        assert_eq!(rig.load(0x806, 2), status);
    }
}
