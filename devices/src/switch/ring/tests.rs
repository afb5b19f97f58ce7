//! Both layouts, driver and device face to face.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::*;
use crate::fuzz::memory_file;
use crate::vhost_user::message::Region;

const SIZE: u16 = 8;
const DESCRIPTORS: u64 = 0x1000;
const DRIVER: u64 = 0x2000;
const DEVICE: u64 = 0x3000;
const TABLE: u64 = 0x4000;
const MEMORY: u64 = 0x1_0000;
const PACKED: u64 = 1 << VIRTIO_F_RING_PACKED;
const INDIRECT_DESC: u64 = 1 << VIRTIO_RING_F_INDIRECT_DESC;
const EVENT_IDX: u64 = 1 << VIRTIO_RING_F_EVENT_IDX;

/// A driver of a packed ring (virtio 1.2 §2.8), honest by default.
struct Driver {
    file: File,
    memory: Arc<PeerMemory>,
    next: u16,
    wrap: bool,
    used: u16,
    used_wrap: bool,
}

/// A buffer: address and length.
type Buffer = (u64, u32);

impl Driver {
    fn new() -> Driver {
        let file = memory_file(MEMORY);
        let region = Region { guest: 0, size: MEMORY, user: 0, offset: 0 };
        let memory = PeerMemory::default().with(region, file.try_clone().unwrap().into()).unwrap();
        Driver { file, memory: Arc::new(memory), next: 0, wrap: true, used: 0, used_wrap: true }
    }

    fn ring(&self, way: Way, features: u64, base: u32) -> Result<Ring, RingError> {
        let layout = Layout { size: SIZE, descriptors: DESCRIPTORS, available: DRIVER, used: DEVICE };
        Ring::new(&self.memory, layout, base, way, PACKED | features)
    }

    fn word(&self, at: u64) -> u16 {
        let mut bytes = [0; 2];
        self.file.read_exact_at(&mut bytes, at).unwrap();
        u16::from_le_bytes(bytes)
    }

    fn put(&self, at: u64, bytes: &[u8]) {
        self.file.write_all_at(bytes, at).unwrap();
    }

    fn describe(&self, at: u64, (address, len): Buffer, id: u16, flags: u16) {
        self.put(at, &[&address.to_le_bytes()[..], &len.to_le_bytes(), &id.to_le_bytes()].concat());
        self.put(at + 14, &flags.to_le_bytes());
    }

    /// Makes a chain available, all its descriptors with these flags and `id` in the last.
    fn offer(&mut self, buffers: &[Buffer], flags: u16, id: u16) {
        for (i, &buffer) in buffers.iter().enumerate() {
            let more = if i + 1 < buffers.len() { NEXT } else { 0 };
            let owner = if self.wrap { 1 << 7 } else { 1 << 15 };
            self.describe(DESCRIPTORS + 16 * u64::from(self.next), buffer, id, flags | more | owner);
            self.next += 1;
            if self.next == SIZE {
                (self.next, self.wrap) = (0, !self.wrap);
            }
        }
    }

    /// The next id and length that came back; `span` descriptors it was.
    fn used(&mut self, span: u16) -> Option<(u16, u32)> {
        let at = DESCRIPTORS + 16 * u64::from(self.used);
        let flags = self.word(at + 14);
        let bit = |shift: u16| flags >> shift & 1 == 1;
        if bit(7) != self.used_wrap || bit(15) != self.used_wrap {
            return None;
        }
        self.used += span;
        if self.used >= SIZE {
            (self.used, self.used_wrap) = (self.used - SIZE, !self.used_wrap);
        }
        Some((self.word(at + 12), self.word(at + 8).into()))
    }
}

fn take(ring: &mut Ring, driver: &Driver, most: usize) -> Result<Vec<Taken>, RingError> {
    let (mut pieces, mut chains) = (Pieces::default(), Vec::new());
    pieces.reset(&driver.memory);
    ring.take(most, &mut pieces, &mut chains).map(|count| {
        assert_eq!(count, chains.len());
        chains
    })
}

#[test]
fn packed_chains_come_and_go_across_the_wrap() {
    let mut driver = Driver::new();
    let mut ring = driver.ring(Way::Send, INDIRECT_DESC, 0x8000_8000).unwrap();
    for round in 0..60_u16 {
        let buffers = [(0x8000, 100), (0x9000, 20), (0xa000, 3)];
        let span = 1 + round % 3;
        driver.offer(&buffers[..span.into()], 0, round);
        for (i, buffer) in buffers[..2].iter().enumerate() {
            driver.describe(TABLE + 16 * i as u64, *buffer, 0, 0);
        }
        driver.offer(&[(TABLE, 32)], INDIRECT, 100 + round);
        let chains = take(&mut ring, &driver, 64).unwrap();
        let lens = [[100, 120, 123][usize::from(span - 1)], 120];
        assert_eq!(
            chains.iter().map(|c| (c.id, c.len)).collect::<Vec<_>>(),
            [(round, lens[0]), (100 + round, 120)]
        );
        // Taken back, they come again.
        ring.untake(&chains);
        assert_eq!(take(&mut ring, &driver, 1).unwrap(), chains[..1]);
        assert_eq!(take(&mut ring, &driver, 1).unwrap()[0].id, 100 + round);
        chains.iter().for_each(|chain| ring.fill(chain, 7));
        assert_eq!(driver.used(span), None, "nothing before it is published");
        assert!(ring.publish());
        assert_eq!(driver.used(span), Some((round, 7)));
        assert_eq!(driver.used(1), Some((100 + round, 7)));
        assert_eq!(driver.used(1), None);
        // A ring that stops here goes on here.
        ring = driver.ring(Way::Send, INDIRECT_DESC, ring.base()).unwrap();
    }
}

#[test]
fn packed_interrupts_where_the_driver_waits_for_them() {
    let mut driver = Driver::new();
    let mut ring = driver.ring(Way::Receive, EVENT_IDX, 0x8000_8000).unwrap();
    let mut asked = Vec::new();
    // At descriptor 2 of the first round, by the third used.
    driver.put(DRIVER, &[0x02, 0x80, 2, 0]);
    for id in 0..5 {
        driver.offer(&[(0x8000, 64)], WRITE, id);
        let chain = take(&mut ring, &driver, 1).unwrap()[0];
        ring.fill(&chain, 60);
        asked.push(ring.publish());
        assert_eq!(driver.used(1), Some((id, 60)));
    }
    assert_eq!(asked, [false, false, true, false, false]);
    for (how, wanted) in [(0, true), (1, false)] {
        driver.put(DRIVER + 2, &[how, 0]);
        driver.offer(&[(0x8000, 64)], WRITE, 9);
        let chain = take(&mut ring, &driver, 1).unwrap()[0];
        ring.fill(&chain, 60);
        assert_eq!(ring.publish(), wanted);
        driver.used(1);
    }
    // The next is descriptor 7 of the first round, and of the second after it.
    assert!(!ring.listen());
    assert_eq!((driver.word(DEVICE), driver.word(DEVICE + 2)), (0x8007, 2));
    ring.hush();
    assert_eq!(driver.word(DEVICE + 2), 1);
    driver.offer(&[(0x8000, 64)], WRITE, 9);
    assert!(ring.listen(), "it looks once more");
}

#[test]
fn packed_kicks_when_a_few_have_come_beyond_those_that_were_not_enough() {
    let mut driver = Driver::new();
    let mut ring = driver.ring(Way::Receive, EVENT_IDX, 0x8000_8000).unwrap();
    (0..2).for_each(|id| driver.offer(&[(0x8000, 64)], WRITE, id));
    let chains = take(&mut ring, &driver, 64).unwrap();
    ring.untake(&chains);
    // Of the six that it has room for half, so the third after those two.
    assert!(!ring.listen_for_few(2));
    assert_eq!((driver.word(DEVICE), driver.word(DEVICE + 2)), (0x8004, 2));
    driver.offer(&[(0x8000, 64)], WRITE, 2);
    assert!(ring.listen_for_few(2), "one came meanwhile");
    // Of none that it has room for, the next.
    assert!(!ring.listen_for_few(u16::MAX));
    assert_eq!(driver.word(DEVICE), 0);
}

#[test]
fn packed_chains_that_make_no_sense() {
    use RingError::*;
    type Bad = (fn(&mut Driver), RingError);
    let bad: [Bad; 9] = [
        (|d| d.offer(&[(0x8000, 1); 8], NEXT, 0), TooLong(0)),
        (|d| d.offer(&[(0x8000, 1)], WRITE, 0), Order(0)),
        (|d| d.offer(&[(MEMORY - 1, 2)], 0, 0), Buffer { address: MEMORY - 1, len: 2 }),
        (|d| d.offer(&[(u64::MAX, 2)], 0, 0), Buffer { address: u64::MAX, len: 2 }),
        (|d| d.offer(&[(TABLE, 24)], INDIRECT, 0), Indirect(24)),
        (|d| d.offer(&[(TABLE, 16 * 9)], INDIRECT, 0), Indirect(16 * 9)),
        (|d| d.offer(&[(TABLE, 16), (TABLE, 16)], INDIRECT, 0), Indirect(16)),
        (|d| d.offer(&[(MEMORY, 16)], INDIRECT, 0), Buffer { address: MEMORY, len: 16 }),
        (
            |d| {
                d.describe(TABLE, (TABLE, 16), 0, INDIRECT);
                d.offer(&[(TABLE, 16)], INDIRECT, 0);
            },
            Indirect(16),
        ),
    ];
    for (act, error) in bad {
        let mut driver = Driver::new();
        let mut ring = driver.ring(Way::Send, INDIRECT_DESC, 0x8000_8000).unwrap();
        act(&mut driver);
        assert_eq!(take(&mut ring, &driver, 64), Err(error));
    }
    let driver = Driver::new();
    assert_eq!(driver.ring(Way::Send, 0, 0x8008).err(), Some(Beyond(8)));
    let mut ring = driver.ring(Way::Send, 0, 0x8000).unwrap();
    driver.describe(DESCRIPTORS, (TABLE, 16), 0, INDIRECT | 1 << 7);
    assert_eq!(take(&mut ring, &driver, 1), Err(IndirectUnasked));
}

#[test]
fn parts_of_a_ring_that_are_not_there() {
    let driver = Driver::new();
    for features in [0, PACKED] {
        for (size, descriptors, available, used) in [
            (0, 0, 0, 0),
            (32769, 0, 0, 0),
            (8, 8, DRIVER, DEVICE),
            (8, MEMORY - 16, DRIVER, DEVICE),
            (8, 0, MEMORY, DEVICE),
            (8, 0, DRIVER, DEVICE + 2),
            (8, 0, DRIVER, u64::MAX - 3),
        ] {
            let layout = Layout { size, descriptors, available, used };
            assert!(Ring::new(&driver.memory, layout, 0, Way::Send, features).is_err(), "{layout:?}");
        }
    }
}
