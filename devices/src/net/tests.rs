//! A card behind its transport; a pair of datagram sockets is the wire.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::testing::bringup::Rig;
use crate::testing::hostile;

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

#[test]
fn control_answers_what_it_can_and_refuses_the_rest() {
    let (mut rig, _wire) = rig(16, 0);
    for (command, answer) in
        [(&[4, 0, 1, 0][..], 1), (&[5, 0, 0, 0, 0, 0, 0, 0, 0, 0], 1), (&[0, 0, 1], 1), (&[], 1)]
    {
        rig.memory.write_slice(command, GuestAddress(0x30_0000)).unwrap();
        let head = rig.drivers[CONTROL].chain(&[(0x30_0000, command.len() as u32)], &[(0x30_1000, 1)]);
        rig.drivers[CONTROL].offer(head);
        rig.kick(CONTROL as u64);
        assert_eq!(rig.wait(CONTROL), (head, 1));
        assert_eq!(rig.memory.read_obj::<u8>(GuestAddress(0x30_1000)).unwrap(), answer, "{command:?}");
    }
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
