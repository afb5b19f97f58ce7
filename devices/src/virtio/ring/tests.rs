use super::*;
use crate::testing::driver::{self, Driver};
use crate::testing::machine::memory;

const TABLE: u64 = 0x20_0000;

fn pair(size: u16) -> (Driver, Ring, Chain) {
    let memory = memory();
    let driver = Driver::new(&memory, 0x1_0000, size);
    let ring = Ring::new(&memory, driver.layout, true, true).unwrap();
    (driver, ring, Chain::new(&memory))
}

#[test]
fn chains_come_and_go_in_order_across_the_wrap() {
    let (mut driver, mut ring, mut chain) = pair(4);
    for round in 0..40_u32 {
        let head = if round % 2 == 0 {
            driver.chain(&[(0x1000, 16)], &[(0x2000, 512), (0x3000, 1)])
        } else {
            driver.indirect(TABLE, &[(0x1000, 16)], &[(0x2000, 512), (0x3000, 1)])
        };
        driver.offer(head);
        assert!(ring.has_work() && ring.take(&mut chain).unwrap());
        assert_eq!((chain.head, chain.readable.len(), chain.writable.len()), (head, 16, 513));
        assert!(!ring.has_work());
        ring.give(head, round);
        assert_eq!(driver.used(), Some((head, round)));
        assert!(!ring.take(&mut chain).unwrap());
    }
}

#[test]
fn what_was_put_back_comes_again() {
    let (mut driver, mut ring, mut chain) = pair(8);
    let heads = [driver.chain(&[(0, 1)], &[]), driver.chain(&[(0, 2)], &[])];
    heads.iter().for_each(|&head| driver.offer(head));
    assert!(ring.take(&mut chain).unwrap() && ring.take(&mut chain).unwrap());
    ring.untake(2);
    assert!(ring.has_work() && ring.take(&mut chain).unwrap());
    assert_eq!(chain.head, heads[0]);
}

#[test]
fn one_interrupt_where_the_driver_waits_for_it() {
    let (mut driver, mut ring, mut chain) = pair(8);
    driver.wake_after(3);
    let mut asked = Vec::new();
    for _ in 0..4 {
        let head = driver.chain(&[(0, 1)], &[]);
        driver.offer(head);
        ring.take(&mut chain).unwrap();
        ring.give(chain.head, 0);
        asked.push(ring.wants_interrupt());
    }
    assert_eq!(asked, [false, false, true, false]);
    assert!(!ring.wants_interrupt(), "nothing new");
}

#[test]
fn kicks_only_while_it_listens() {
    let (mut driver, mut ring, mut chain) = pair(8);
    assert!(!ring.listen());
    let head = driver.chain(&[(0, 1)], &[]);
    driver.offer(head);
    assert!(driver.kick_wanted());
    ring.hush();
    ring.take(&mut chain).unwrap();
    driver.offer(head);
    assert!(!driver.kick_wanted(), "it is draining");
    assert!(ring.listen(), "it looks once more");
}

#[test]
fn without_event_idx_flags_say_the_same() {
    let (mut driver, _, mut chain) = pair(8);
    let mut ring = Ring::new(&driver.memory, driver.layout, false, false).unwrap();
    ring.hush();
    assert_eq!(driver.used_flags(), NO_NOTIFY);
    ring.listen();
    assert_eq!(driver.used_flags(), 0);
    for flags in [0, NO_INTERRUPT] {
        driver.set_flags(flags);
        let head = driver.chain(&[(0, 1)], &[]);
        driver.offer(head);
        ring.take(&mut chain).unwrap();
        ring.give(head, 0);
        assert_eq!(ring.wants_interrupt(), flags == 0);
    }
    let head = driver.indirect(TABLE, &[(0, 1)], &[]);
    driver.offer(head);
    assert_eq!(ring.take(&mut chain), Err(RingError::IndirectUnasked));
}

/// One bad descriptor table, and what it is called.
#[test]
fn every_bad_chain_is_named() {
    use RingError::*;
    use driver::{INDIRECT, NEXT, WRITE};
    type Bad = (&'static [(u64, u32, u16, u16)], RingError);
    let cases: &[Bad] = &[
        (&[(0, 1, NEXT, 0)], TooLong(0)),
        (&[(0, 0, NEXT, 1), (0, 0, NEXT, 0)], TooLong(0)),
        (&[(0, 1, NEXT, 8)], Beyond(8)),
        (&[(0, 1, NEXT, 0xffff)], Beyond(0xffff)),
        (&[(0, 1, WRITE | NEXT, 1), (0, 1, 0, 0)], Order(0)),
        (&[(15 << 20, 2 << 20, 0, 0)], Buffer { address: 15 << 20, len: 2 << 20 }),
        (&[(1 << 40, 1, WRITE, 0)], Buffer { address: 1 << 40, len: 1 }),
        (&[(u64::MAX, 2, 0, 0)], Buffer { address: u64::MAX, len: 2 }),
        (&[(0, u32::MAX, 0, 0)], Buffer { address: 0, len: u32::MAX }),
        (&[(TABLE, 0, INDIRECT, 0)], Indirect(0)),
        (&[(TABLE, 17, INDIRECT, 0)], Indirect(17)),
        (&[(TABLE, 16 * 9, INDIRECT, 0)], Indirect(16 * 9)),
        (&[(TABLE, u32::MAX, INDIRECT, 0)], Indirect(u32::MAX)),
        (&[(TABLE, 16, INDIRECT | NEXT, 1)], Indirect(16)),
        (&[(1 << 40, 16, INDIRECT, 0)], Buffer { address: 1 << 40, len: 16 }),
    ];
    for (descriptors, error) in cases {
        let (mut driver, mut ring, mut chain) = pair(8);
        for (&(address, len, flags, next), index) in descriptors.iter().zip(0..) {
            driver.describe(driver.layout.descriptors, index, (address, len), flags, next);
        }
        driver.offer(0);
        assert_eq!(ring.take(&mut chain).as_ref(), Err(error), "{descriptors:x?}");
    }
}

#[test]
fn every_bad_table_is_named() {
    use driver::{INDIRECT, NEXT};
    let (mut driver, mut ring, mut chain) = pair(8);
    let head = driver.indirect(TABLE, &[(0, 1), (0, 1)], &[]);
    driver.offer(head);
    let mut take = |flags, next| {
        driver.describe(TABLE, 1, (0, 1), flags, next);
        ring.take(&mut chain)
    };
    assert_eq!(take(INDIRECT, 0), Err(RingError::Indirect(32)), "a table in a table");
    assert_eq!(take(NEXT, 2), Err(RingError::Beyond(2)));
    assert_eq!(take(NEXT, 0), Err(RingError::TooLong(head)));
    assert_eq!(take(0, 0), Ok(true));
}

#[test]
fn heads_and_indices_are_not_believed() {
    let (mut driver, mut ring, mut chain) = pair(8);
    driver.offer(8);
    assert_eq!(ring.take(&mut chain), Err(RingError::Beyond(8)));
    let (driver, mut ring, _) = pair(8);
    driver.publish(0xffff);
    assert_eq!(ring.take(&mut chain), Err(RingError::Index { index: 0xffff, next: 0 }));
    driver.publish(9);
    assert_eq!(ring.take(&mut chain), Err(RingError::Index { index: 9, next: 0 }));
}

#[test]
fn rings_lie_in_memory_aligned() {
    let (driver, ..) = pair(8);
    let good = driver.layout;
    let new = |layout| Ring::new(&driver.memory, layout, true, true).map(drop);
    for size in [0, 3, 7, 0xffff] {
        assert_eq!(new(Layout { size, ..good }), Err(RingError::Size(size)));
    }
    for descriptors in [8, 16 << 20, (16 << 20) - 16, 1 << 60, 0xffff_ffff_ffff_fff0] {
        assert!(new(Layout { descriptors, ..good }).is_err(), "{descriptors:#x}");
    }
    assert!(new(Layout { available: 1, ..good }).is_err());
    assert!(new(Layout { used: 2, ..good }).is_err());
}
