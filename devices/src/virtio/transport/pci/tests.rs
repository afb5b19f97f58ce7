//! A driver that behaves, and one that does not, at the registers of a function.

use super::*;
use crate::testing::bringup::{BASE, PORT, Rig};
use crate::testing::hostile;
use crate::testing::machine::{Machine, memory};
use crate::testing::toy::Toy;

fn rig() -> Rig {
    Rig::new(Toy::boxed(), false)
}

fn echo(rig: &mut Rig, queue: usize) {
    let head = rig.drivers[queue].chain(&[], &[(0x9000, 64)]);
    rig.drivers[queue].offer(head);
    rig.kick(queue as u64);
    assert_eq!(rig.wait(queue), (head, 64));
}

#[test]
fn capabilities_lead_to_every_part() {
    let rig = rig();
    assert_eq!(rig.config(0, 4), 0x1044_1af4);
    let (mut at, mut found) = (rig.config(0x34, 1), Vec::new());
    while at != 0 {
        let kind = if rig.config(at, 1) == 9 { rig.config(at + 3, 1) } else { 0x11 };
        found.push(kind);
        if kind == 2 {
            assert_eq!((rig.config(at + 8, 4), rig.config(at + 16, 4)), (DOORBELLS, DOORBELL_STRIDE));
        }
        at = rig.config(at + 1, 1);
    }
    assert_eq!(found, [0x11, 1, 2, 3, 4, 5]);
    assert_eq!(rig.load(DEVICE, 4), 0x03_0201);
    assert_eq!(rig.load(DEVICE + 2, 8), 3, "zero beyond its end");
}

#[test]
fn both_queues_serve_and_interrupt_on_their_own_vectors() {
    let mut rig = rig();
    rig.bring_up(16, 1 << 29);
    for queue in [0, 1, 0] {
        echo(&mut rig, queue);
    }
    rig.bus.lock().unwrap().quiesce();
    assert_eq!([0, 1, 2].map(|vector| rig.machine.raised(vector)), [0, 2, 1]);
}

#[test]
fn without_event_idx_and_without_indirect_it_serves_too() {
    let mut rig = rig();
    rig.bring_up(16, 1 << 28 | 1 << 29);
    echo(&mut rig, 0);
}

fn bells(rig: &Rig) -> Vec<Place> {
    rig.machine.asked.lock().unwrap().doorbells.iter().map(|bell| bell.0).collect()
}

fn rig_with_ports(device: Box<dyn crate::virtio::device::Device>) -> Rig {
    Rig::kicked_by(Kicks::Port, Machine::default(), memory(), device)
}

#[test]
fn ports_come_before_memory_and_doorbells_are_there() {
    let mut rig = rig_with_ports(Toy::boxed());
    let (mut at, mut found) = (rig.config(0x34, 1), Vec::new());
    while at != 0 {
        if (rig.config(at, 1), rig.config(at + 3, 1)) == (9, 2) {
            found.push([
                rig.config(at + 4, 1),
                rig.config(at + 8, 4),
                rig.config(at + 12, 4),
                rig.config(at + 16, 4),
            ]);
        }
        at = rig.config(at + 1, 1);
    }
    assert_eq!(
        found,
        [[2, 0, 8, 4], [0, DOORBELLS, BAR_SIZE - DOORBELLS, 4]],
        "BAR, offset, length, multiplier"
    );
    let port = |port| Place::Port(port);
    rig.bring_up(16, 0);
    assert_eq!(bells(&rig), [port(PORT), port(PORT + 4)]);
    // Sizing and moving.
    rig.set_config(4, 2, 6);
    assert!(bells(&rig).is_empty());
    rig.set_config(0x18, 4, 0xffff_ffff);
    assert_eq!(rig.config(0x18, 4), 0xfff9, "eight ports of 64 Ki");
    rig.set_config(0x18, 4, u64::from(PORT) + 0x80);
    rig.set_config(4, 2, 7);
    assert_eq!(bells(&rig), [port(PORT + 0x80), port(PORT + 0x84)]);
    // Out of the window it answers no more, and memory is not in its place.
    for beyond in [0, u64::from(PORT) - 8, u64::from(PORT) + 0x100, 0xfff8] {
        rig.set_config(0x18, 4, beyond);
        assert!(bells(&rig).is_empty(), "{beyond:#x}");
    }
}

#[test]
fn a_kick_at_a_port_or_in_memory_is_a_kick() {
    let mut rig = rig_with_ports(Toy::boxed());
    rig.bring_up(16, 0);
    for queue in [0, 1, 0] {
        echo(&mut rig, queue);
        let head = rig.drivers[queue].chain(&[], &[(0x9000, 64)]);
        rig.drivers[queue].offer(head);
        rig.kick_port(queue as u64);
        assert_eq!(rig.wait(queue), (head, 64));
    }
    // By configuration space.
    let access = access(&rig);
    rig.set_config(access + 4, 1, 2);
    rig.set_config(access + 8, 4, 4);
    rig.set_config(access + 12, 4, 2);
    let head = rig.drivers[1].chain(&[], &[(0x9000, 64)]);
    rig.drivers[1].offer(head);
    rig.set_config(access + 16, 2, 1);
    assert_eq!(rig.wait(1), (head, 64));
    // Of no queue, and of no device.
    rig.kick_port(2);
    rig.kick_port(63);
}

#[test]
fn doorbells_follow_the_bar() {
    let mut rig = rig();
    let bells = |rig: &Rig| {
        bells(rig)
            .into_iter()
            .map(|place| match place {
                Place::Memory(address) => address,
                Place::Port(port) => panic!("{port:#x}"),
            })
            .collect::<Vec<_>>()
    };
    assert!(bells(&rig).is_empty());
    rig.bring_up(16, 0);
    assert_eq!(bells(&rig), [BASE + 0x2000, BASE + 0x2004]);
    // Sizing and moving, as a guest does it: decoding off, all ones, new address, on.
    rig.set_config(4, 2, 0);
    assert!(bells(&rig).is_empty());
    rig.set_config(0x10, 4, 0xffff_ffff);
    assert_eq!(rig.config(0x10, 4), 0xffff_c004);
    rig.set_config(0x10, 4, BASE + 0x8000);
    rig.set_config(4, 2, 6);
    assert_eq!(bells(&rig), [BASE + 0xa000, BASE + 0xa004]);
    assert_eq!(rig.load(0x8000 + 18, 2), 2);
    assert_eq!(rig.load(18, 2), 0xffff, "nothing is left where it was");
    // Out of the window: it answers no more.
    rig.set_config(0x10, 4, 0x1000);
    assert!(bells(&rig).is_empty());
    rig.set_config(0x10, 4, BASE);
    rig.store(20, 1, 0);
    assert!(bells(&rig).is_empty(), "reset takes them down");
}

#[test]
fn a_masked_vector_keeps_its_interrupt() {
    for by_ioctl in [false, true] {
        let mut rig = Rig::new(Toy::boxed(), by_ioctl);
        rig.bring_up(16, 0);
        let route = |rig: &Rig| rig.machine.asked.lock().unwrap().routes[1].map(|message| message.data);
        let sent = |rig: &Rig| rig.machine.asked.lock().unwrap().sent.len();
        assert_eq!(rig.load(PENDING, 8), 0);
        rig.store(TABLE + 16 + 12, 4, 1);
        assert_eq!(route(&rig), None);
        echo(&mut rig, 0);
        crate::testing::bringup::until(|| (rig.load(PENDING, 8) == 2).then_some(()));
        assert_eq!(sent(&rig), 0);
        rig.store(TABLE + 16 + 8, 4, 77);
        rig.store(TABLE + 16 + 12, 4, 0);
        if by_ioctl {
            assert_eq!(
                rig.machine.asked.lock().unwrap().sent.iter().map(|m| m.data).collect::<Vec<_>>(),
                [77]
            );
        } else {
            assert_eq!((route(&rig), rig.machine.raised(1)), (Some(77), 1));
        }
        assert_eq!(rig.load(PENDING, 8), 0);
        // The function's own mask covers all vectors.
        if !by_ioctl {
            rig.set_config(0x42, 2, 0xc000);
            assert_eq!(route(&rig), None);
            rig.set_config(0x42, 2, 0x8000);
            assert_eq!(route(&rig), Some(77));
        }
    }
}

#[test]
fn features_that_were_not_offered_are_refused() {
    let rig = rig();
    for extra in [1_u64 << 5, 1 << 33, 1 << 63] {
        for status in [0, 1, 3] {
            rig.store(20, 1, status);
        }
        let features = rig.offered() | extra;
        for half in 0..2 {
            rig.store(8, 4, half);
            rig.store(12, 4, features >> (32 * half) & 0xffff_ffff);
        }
        rig.store(20, 1, 11);
        assert_eq!(rig.load(20, 1), 3);
    }
    // And so is a driver that wants no version 1.
    for status in [0, 1, 3, 11] {
        rig.store(20, 1, status);
    }
    assert_eq!(rig.load(20, 1), 3);
}

#[test]
fn a_live_queue_without_addresses_needs_a_reset() {
    let mut rig = rig();
    rig.bring_up(16, 0);
    for status in [0, 1, 3] {
        rig.store(20, 1, status);
    }
    rig.store(8, 4, 1);
    rig.store(12, 4, 1);
    rig.store(20, 1, 11);
    rig.store(22, 2, 0);
    rig.store(32, 4, 0xffff_fff0);
    rig.store(36, 4, 0xffff_ffff);
    rig.store(28, 2, 1);
    rig.store(20, 1, 15);
    rig.wait_broken();
    assert_eq!(rig.machine.raised(0), 0, "it had no vector for its configuration");
    rig.bring_up(16, 0);
    echo(&mut rig, 0);
}

#[test]
fn whatever_the_driver_does_it_serves_again() {
    hostile::play(rig(), |rig| (0..2).for_each(|queue| echo(rig, queue)));
}

/// Where the configuration access capability is.
fn access(rig: &Rig) -> u64 {
    let mut at = rig.config(0x34, 1);
    while rig.config(at + 3, 1) != 5 {
        at = rig.config(at + 1, 1);
    }
    at
}

#[test]
fn configuration_space_reaches_into_the_bar() {
    let rig = rig();
    let access = access(&rig);
    let place = |offset, len| {
        rig.set_config(access + 4, 1, 0);
        rig.set_config(access + 8, 4, offset);
        rig.set_config(access + 12, 4, len);
    };
    place(18, 2);
    assert_eq!(rig.config(access + 16, 2), 2, "two queues");
    place(20, 1);
    rig.set_config(access + 16, 1, 1);
    assert_eq!(rig.load(20, 1), 1);
}
