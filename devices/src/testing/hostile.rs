//! A driver that breaks the rules, against any device: each rule of the ring, every register in every
//! width, features that nobody offered, a reset in the middle of it all.
//!
//! The device asks for a reset, is counted as having done so once, touches nothing of the guest's
//! meanwhile, and serves again after the reset.

use super::bringup::{BASE, Rig};
use super::driver::{Driver, INDIRECT, NEXT, WRITE};

/// A table, and a buffer, in the guest's memory.
const TABLE: u64 = 0x50_0000;
const BUFFER: u64 = 0x51_0000;
/// Entries of each ring.
const SIZE: u16 = 16;

/// What is wrong, and how it is done.
type Shape = (&'static str, fn(&mut Driver));

/// Descriptors from 0 on: address, length, flags, next; then the first of them is offered.
fn table(driver: &mut Driver, at: u64, descriptors: &[(u64, u32, u16, u16)]) {
    for (&(address, len, flags, next), index) in descriptors.iter().zip(0..) {
        driver.describe(at, index, (address, len), flags, next);
    }
}

fn offer(driver: &mut Driver, descriptors: &[(u64, u32, u16, u16)]) {
    table(driver, driver.layout.descriptors, descriptors);
    driver.offer(0);
}

const SHAPES: &[Shape] = &[
    ("a descriptor that leads to itself", |d| offer(d, &[(BUFFER, 1, NEXT, 0)])),
    ("two that lead to each other", |d| offer(d, &[(BUFFER, 0, NEXT, 1), (BUFFER, 0, NEXT, 0)])),
    ("a chain longer than the queue", |d| {
        let long: Vec<_> = (0..SIZE).map(|i| (BUFFER, 1, NEXT, (i + 1) % SIZE)).collect();
        offer(d, &long);
    }),
    ("a chain that leaves the table", |d| offer(d, &[(BUFFER, 1, NEXT, SIZE)])),
    ("a head beyond the table", |d| d.offer(SIZE)),
    ("readable behind writable", |d| offer(d, &[(BUFFER, 1, WRITE | NEXT, 1), (BUFFER, 1, 0, 0)])),
    ("an address outside memory", |d| offer(d, &[(1 << 40, 16, 0, 0)])),
    ("a buffer across the end of memory", |d| offer(d, &[((16 << 20) - 8, 16, WRITE, 0)])),
    ("a buffer across the end of all addresses", |d| offer(d, &[(u64::MAX - 8, 16, WRITE, 0)])),
    ("a huge length", |d| offer(d, &[(BUFFER, u32::MAX, WRITE, 0)])),
    ("an empty indirect table", |d| offer(d, &[(TABLE, 0, INDIRECT, 0)])),
    ("a broken indirect table", |d| offer(d, &[(TABLE, 17, INDIRECT, 0)])),
    ("an indirect table longer than the queue", |d| offer(d, &[(TABLE, 16 * 17, INDIRECT, 0)])),
    ("an indirect table outside memory", |d| offer(d, &[(1 << 40, 16, INDIRECT, 0)])),
    ("an indirect table that goes on", |d| offer(d, &[(TABLE, 16, INDIRECT | NEXT, 1)])),
    ("a table in a table", |d| {
        table(d, TABLE, &[(TABLE, 16, INDIRECT, 0)]);
        offer(d, &[(TABLE, 16, INDIRECT, 0)]);
    }),
    ("a loop in a table", |d| {
        table(d, TABLE, &[(BUFFER, 1, NEXT, 0)]);
        offer(d, &[(TABLE, 16, INDIRECT, 0)]);
    }),
    ("an index further ahead than the queue is long", |d| d.publish(SIZE + 1)),
    ("an index that runs backwards", |d| d.publish(u16::MAX)),
];

/// Chains of nothing, which break no rule: they are given back, or wait for more, and nothing comes of them.
const NOTHING: &[Shape] = &[
    ("nothing to read", |d| offer(d, &[(BUFFER, 0, 0, 0)])),
    ("nothing to write to", |d| offer(d, &[(BUFFER, 0, WRITE, 0)])),
    ("nothing, anywhere", |d| offer(d, &[(0, 0, NEXT, 1), (1 << 40, 0, WRITE, 0)])),
    ("nothing in a table", |d| {
        table(d, TABLE, &[(BUFFER, 0, NEXT, 1), (BUFFER, 0, WRITE, 0)]);
        offer(d, &[(TABLE, 32, INDIRECT, 0)]);
    }),
];

/// All of it. `alive` shows that the device serves, freshly brought up.
pub fn play(mut rig: Rig, alive: impl Fn(&mut Rig)) {
    bring_up(&mut rig);
    alive(&mut rig);
    let queues = rig.drivers.len();
    for (what, act) in SHAPES {
        for queue in 0..queues {
            bring_up(&mut rig);
            let faults = faults(&rig);
            act(&mut rig.drivers[queue]);
            rig.kick(queue as u64);
            rig.wait_broken();
            // Nothing helps but a reset, and nothing is said or given back before it.
            (0..queues).for_each(|queue| rig.kick(queue as u64));
            assert_eq!(rig.drivers[queue].used(), None, "{what}, queue {queue}");
            assert_eq!(self::faults(&rig), faults + 1, "{what}, queue {queue}");
        }
        bring_up(&mut rig);
        alive(&mut rig);
    }
    for (what, act) in NOTHING {
        for queue in 0..queues {
            bring_up(&mut rig);
            let faults = faults(&rig);
            act(&mut rig.drivers[queue]);
            rig.kick(queue as u64);
            std::thread::sleep(std::time::Duration::from_millis(2));
            let said = (rig.load(20, 1), self::faults(&rig));
            assert_eq!(said, (15, faults), "{what}, queue {queue}");
        }
        bring_up(&mut rig);
        alive(&mut rig);
    }
    unset_queues(&mut rig);
    features(&rig);
    registers(&mut rig);
    resets(&mut rig);
    bring_up(&mut rig);
    alive(&mut rig);
}

fn bring_up(rig: &mut Rig) {
    rig.bring_up(SIZE, 0);
}

fn faults(rig: &Rig) -> u64 {
    rig.bus.lock().unwrap().counts()[0].faults
}

/// Queues that are enabled, though nobody has said where they are; or only in part.
fn unset_queues(rig: &mut Rig) {
    for set in [&[][..], &[32], &[32, 40], &[40, 48]] {
        for status in [0, 1, 3] {
            rig.store(20, 1, status);
        }
        accept(rig, rig.offered());
        rig.store(20, 1, 11);
        rig.store(22, 2, 0);
        set.iter().for_each(|&register| rig.store(register, 4, 0x10_0000));
        rig.store(28, 2, 1);
        let before = faults(rig);
        rig.store(20, 1, 15);
        rig.kick(0);
        rig.wait_broken();
        assert_eq!(faults(rig), before + 1);
    }
}

fn accept(rig: &Rig, features: u64) {
    for half in 0..2 {
        rig.store(8, 4, half);
        rig.store(12, 4, features >> (32 * half) & 0xffff_ffff);
    }
}

/// Each feature that was not offered is refused, and none keeps the others from being agreed on.
fn features(rig: &Rig) {
    let offered = rig.offered();
    for bit in (0..64).filter(|bit| offered & 1 << bit == 0) {
        for status in [0, 1, 3] {
            rig.store(20, 1, status);
        }
        accept(rig, offered | 1 << bit);
        rig.store(20, 1, 11);
        assert_eq!(rig.load(20, 1), 3, "feature {bit}");
    }
}

/// Every register, loaded and stored in every width, with noise, zeroes and ones; doorbells of queues
/// that don't exist.
pub fn registers(rig: &mut Rig) {
    let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..3 {
        for offset in (0..0x80)
            .chain(0x3f8..0x408)
            .chain(0x7f8..0x850)
            .chain(0xff8..0x1048)
            .chain(0x17f0..0x1820)
            .chain(0x1ff0..0x2040)
            .chain(0x3ff0..0x4000)
        {
            for len in [1, 2, 4, 8] {
                noise = noise.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                rig.load(offset, len);
                rig.store(offset, len, [noise, 0, u64::MAX][round]);
            }
        }
        for offset in (0..0x100).chain(0xff0..0x1000) {
            for len in [1, 2, 4] {
                rig.config(offset, len);
                rig.set_config(offset, len, noise >> round);
            }
        }
    }
    for queue in [2, 77, 2047] {
        rig.kick(queue);
    }
    rig.set_config(0x10, 4, BASE);
    rig.set_config(0x14, 4, 0);
    rig.set_config(4, 2, 6);
}

/// Resets while requests are in flight: afterwards nothing of the guest's is touched.
fn resets(rig: &mut Rig) {
    for _ in 0..20 {
        bring_up(rig);
        for queue in 0..rig.drivers.len() {
            for _ in 0..8 {
                let head = rig.drivers[queue].chain(&[(BUFFER, 64)], &[(BUFFER + 0x1000, 4096)]);
                rig.drivers[queue].offer(head);
            }
            rig.kick(queue as u64);
        }
        rig.store(20, 1, 0);
        assert_eq!(rig.load(20, 1), 0);
        let used: Vec<_> = rig.drivers.iter().map(|driver| driver.used_index()).collect();
        std::thread::yield_now();
        assert_eq!(used, rig.drivers.iter().map(|driver| driver.used_index()).collect::<Vec<_>>());
    }
}
