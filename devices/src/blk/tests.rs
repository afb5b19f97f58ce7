//! A disk behind its transport, both engines alike.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::image::{Image, Options};
use super::*;
use crate::testing::bringup::{Rig, until};
use crate::testing::driver::Buffer;
use crate::testing::hostile;
use crate::testing::machine::{Machine, Scratch};

const HEADER: u64 = 0x40_0000;
const STATUS: u64 = 0x40_1000;
const DATA: u64 = 0x50_0000;
const TABLE: u64 = 0x60_0000;
const SECTORS: u64 = 2048;

fn image(name: &str) -> Scratch {
    let path = Scratch::new(name);
    let bytes: Vec<u8> = (0..SECTORS * 512).map(|i| ((i / 512) ^ i) as u8).collect();
    fs::write(&*path, bytes).unwrap();
    path
}

fn rig(path: &Path, engine: Engine, tune: impl Fn(&mut Options)) -> Rig {
    let mut options = Options { path: path.into(), serial: "S-42".into(), ..Options::default() };
    tune(&mut options);
    let disk = Blk::new("blk.0", Image::open(&options).unwrap(), engine, 1, Tuning::default()).unwrap();
    let mut rig = Rig::new(Box::new(disk), false);
    rig.bring_up(64, 0);
    rig
}

fn both(name: &str, test: impl Fn(Rig, &Path)) {
    for engine in [Engine::Sync, Engine::Uring] {
        let path = image(&format!("{name}-{engine:?}"));
        test(rig(&path, engine, |_| ()), &path);
    }
}

/// One request; returns its status byte and the length given back.
fn ask(rig: &mut Rig, kind: u32, sector: u64, out: &[Buffer], into: &[Buffer]) -> (u8, u32) {
    let header = u128::from(kind) | u128::from(sector) << 64;
    rig.memory.write_slice(&header.to_le_bytes(), GuestAddress(HEADER)).unwrap();
    rig.memory.write_slice(&[0xee], GuestAddress(STATUS)).unwrap();
    let readable = [&[(HEADER, 16)], out].concat();
    let writable = [into, &[(STATUS, 1)]].concat();
    let driver = &mut rig.drivers[0];
    let head = driver.indirect(TABLE, &readable, &writable);
    driver.offer(head);
    if driver.kick_wanted() {
        rig.kick(0);
    }
    let (used, len) = rig.wait(0);
    assert_eq!(used, head);
    (rig.memory.read_obj(GuestAddress(STATUS)).unwrap(), len)
}

#[test]
fn what_is_written_is_read_back_and_in_the_file() {
    both("blk-rw", |mut rig, path| {
        let data: Vec<u8> = (0..4096_u32).map(|i| (i * 7) as u8).collect();
        rig.memory.write_slice(&data, GuestAddress(DATA)).unwrap();
        let pieces = [(DATA, 512), (DATA + 512, 3000), (DATA + 3512, 584)];
        assert_eq!(ask(&mut rig, 1, 10, &pieces, &[]), (0, 1));
        assert_eq!(ask(&mut rig, 4, 0, &[], &[]), (0, 1));
        // Across the border of the two memory regions.
        let there = (8 << 20) - 100;
        assert_eq!(ask(&mut rig, 0, 10, &[], &[(there, 4096)]), (0, 4097));
        let mut back = vec![0; 4096];
        rig.memory.read_slice(&mut back, GuestAddress(there)).unwrap();
        assert!(back == data);
        assert!(fs::read(path).unwrap()[5120..][..4096] == data);
    });
}

#[test]
fn serial_discard_and_zeroes() {
    both("blk-misc", |mut rig, path| {
        assert_eq!(ask(&mut rig, 8, 0, &[], &[(DATA, 20)]).0, 0);
        let mut serial = [0; 20];
        rig.memory.read_slice(&mut serial, GuestAddress(DATA)).unwrap();
        assert_eq!(&serial[..6], b"S-42\0\0");
        for (kind, sector) in [(11_u32, 8_u64), (13, 16)] {
            let range = u128::from(sector) | 8 << 64;
            rig.memory.write_slice(&range.to_le_bytes(), GuestAddress(DATA)).unwrap();
            assert_eq!(ask(&mut rig, kind, 0, &[(DATA, 16)], &[]).0, 0, "{kind}");
            let file = fs::read(path).unwrap();
            assert!(file[sector as usize * 512..][..4096].iter().all(|&b| b == 0));
            assert_eq!(file.len() as u64, SECTORS * 512);
        }
    });
}

#[test]
fn a_failing_host_is_an_error_of_the_disk_and_the_disk_goes_on() {
    both("blk-fail", |mut rig, path| {
        File::options().write(true).open(path).unwrap().set_len(4096).unwrap();
        assert_eq!(ask(&mut rig, 0, 8, &[], &[(DATA, 512)]).0, 1, "beyond the end of a shrunk image");
        assert_eq!(ask(&mut rig, 0, 7, &[], &[(DATA, 1024)]).0, 1, "half of it");
        assert_eq!(ask(&mut rig, 0, 0, &[], &[(DATA, 512)]).0, 0);
        assert_eq!(ask(&mut rig, 0, SECTORS, &[], &[(DATA, 512)]).0, 1);
        assert_eq!(ask(&mut rig, 99, 0, &[], &[]).0, 2);
        rig.bus.lock().unwrap().quiesce();
        let counts = &rig.bus.lock().unwrap().counts()[0];
        let reads = counts.operations.iter().find(|row| row.name == "read").unwrap();
        assert_eq!((reads.count, reads.errors, reads.bytes), (3, 2, 512));
        assert!(reads.ns_max > 0 && counts.queues[0].errors == 4 && counts.queues[0].chains == 5);
    });
}

/// A disk over any file, by both engines.
fn over(path: &str, test: impl Fn(Rig)) {
    for engine in [Engine::Sync, Engine::Uring] {
        let file = File::options().read(true).write(true).open(path).unwrap();
        let disk = Blk::new("blk.0", Image::over(file, SECTORS), engine, 1, Tuning::default()).unwrap();
        let mut rig = Rig::new(Box::new(disk), false);
        rig.bring_up(64, 0);
        test(rig);
    }
}

/// Count and errors of an operation, once the queues have stopped.
fn outcome(rig: &Rig, name: &str) -> (u64, u64) {
    rig.bus.lock().unwrap().quiesce();
    let counts = rig.bus.lock().unwrap().counts().swap_remove(0);
    let row = counts.operations.into_iter().find(|row| row.name == name).unwrap();
    (row.count, row.errors)
}

#[test]
fn a_full_host_is_an_error_of_the_write_and_the_disk_goes_on() {
    // ENOSPC for every write, zeroes for every read, EINVAL for fdatasync (full(4)).
    over("/dev/full", |mut rig| {
        assert_eq!(ask(&mut rig, 1, 0, &[(DATA, 4096)], &[]).0, 1);
        assert_eq!(ask(&mut rig, 0, 0, &[], &[(DATA, 4096)]), (0, 4097));
        assert_eq!(ask(&mut rig, 4, 0, &[], &[]).0, 1, "no flush is acknowledged that was none");
        assert_eq!(ask(&mut rig, 1, 0, &[(DATA, 4096)], &[]).0, 1);
        assert_eq!([outcome(&rig, "write"), outcome(&rig, "read")], [(2, 2), (1, 0)]);
    });
}

#[test]
fn an_io_error_of_the_host_is_one_of_the_disk() {
    // Nothing is mapped at address 0: proc(5) answers EIO.
    over("/proc/self/mem", |mut rig| {
        for (kind, out, into) in [(0, &[][..], &[(DATA, 512)][..]), (1, &[(DATA, 512)], &[])] {
            assert_eq!(ask(&mut rig, kind, 0, out, into).0, 1);
        }
        assert_eq!(ask(&mut rig, 8, 0, &[], &[(DATA, 20)]).0, 0);
        assert_eq!([outcome(&rig, "write"), outcome(&rig, "read")], [(1, 1), (1, 1)]);
    });
}

#[test]
fn a_sparse_image_stays_sparse_and_gives_blocks_back() {
    both("blk-sparse", |mut rig, path| {
        File::create(path).unwrap().set_len(SECTORS * 512).unwrap();
        let blocks = || std::os::unix::fs::MetadataExt::blocks(&fs::metadata(path).unwrap());
        assert_eq!(blocks(), 0);
        assert_eq!(ask(&mut rig, 0, 0, &[], &[(DATA, 0x1_0000)]).0, 0);
        assert_eq!(blocks(), 0);
        assert_eq!(ask(&mut rig, 1, 0, &[(DATA, 0x1_0000)], &[]).0, 0);
        assert_eq!(ask(&mut rig, 4, 0, &[], &[]).0, 0);
        let full = blocks();
        assert!(full >= 128);
        let range = 128_u128 << 64;
        rig.memory.write_slice(&range.to_le_bytes(), GuestAddress(DATA)).unwrap();
        assert_eq!(ask(&mut rig, 11, 0, &[(DATA, 16)], &[]).0, 0);
        assert!(blocks() < full, "{} of {full} blocks are left", blocks());
    });
}

#[test]
fn each_queue_has_a_worker_and_its_own_counts() {
    for engine in [Engine::Sync, Engine::Uring] {
        let path = image(&format!("blk-queues-{engine:?}"));
        let options = Options { path: path.to_path_buf(), ..Options::default() };
        let disk = Blk::new("blk.0", Image::open(&options).unwrap(), engine, 4, Tuning::default()).unwrap();
        let mut rig = Rig::new(Box::new(disk), false);
        assert_ne!(rig.offered() & 1 << VIRTIO_BLK_F_MQ, 0);
        assert_eq!(rig.load(0x800 + 34, 2), 4);
        rig.bring_up(64, 0);
        for queue in [3, 0, 2, 1, 3] {
            let header = u128::from(queue as u64) << 64;
            rig.memory.write_slice(&header.to_le_bytes(), GuestAddress(HEADER)).unwrap();
            let head = rig.drivers[queue].chain(&[(HEADER, 16)], &[(DATA, 512), (STATUS, 1)]);
            rig.drivers[queue].offer(head);
            rig.kick(queue as u64);
            assert_eq!(rig.wait(queue), (head, 513));
        }
        rig.bus.lock().unwrap().quiesce();
        let counts = rig.bus.lock().unwrap().counts().swap_remove(0);
        assert_eq!(counts.queues.iter().map(|queue| queue.chains).collect::<Vec<_>>(), [1, 1, 1, 2]);
        assert_eq!((counts.operations[0].name, counts.operations[0].count), ("read", 5));
    }
}

#[test]
fn the_driver_is_told_how_to_ask() {
    let path = image("blk-config");
    let rig = rig(&path, Engine::Sync, |_| ());
    let field = |offset: u64, len| rig.load(0x800 + offset, len);
    assert_eq!(field(0, 8), SECTORS);
    assert_eq!((field(12, 4), field(20, 4)), (254, 512), "segments; bytes of a block");
    assert_eq!((field(24, 1), field(25, 1), field(26, 2)), (3, 0, 8), "a page is the physical block");
    assert_eq!((field(36, 4), field(40, 4), field(44, 4)), (1 << 21, 16, 1), "discard");
    assert_eq!((field(48, 4), field(52, 4), field(56, 1)), (1 << 21, 16, 1), "write zeroes");
    let wanted = [VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_WRITE_ZEROES];
    assert!(wanted.iter().all(|bit| rig.offered() & 1 << bit != 0));
    let path = image("blk-config-ro");
    let rig = self::rig(&path, Engine::Sync, |options| options.read_only = true);
    assert_ne!(rig.offered() & 1 << VIRTIO_BLK_F_RO, 0);
    assert_eq!(rig.offered() & (1 << VIRTIO_BLK_F_DISCARD | 1 << VIRTIO_BLK_F_WRITE_ZEROES), 0);
}

#[test]
fn whatever_the_driver_does_it_serves_again() {
    for engine in [Engine::Sync, Engine::Uring] {
        let path = image(&format!("blk-hostile-{engine:?}"));
        hostile::play(rig(&path, engine, |_| ()), |rig| {
            assert_eq!(ask(rig, 0, 3, &[], &[(DATA, 4096)]), (0, 4097));
        });
    }
}

#[test]
fn buffers_the_wrong_way_round_are_errors_of_the_request() {
    both("blk-wrong-way", |mut rig, _| {
        // A header to be written, data to be read where it should be written, a status to be read.
        for (out, into) in [
            (&[][..], &[(HEADER, 16), (DATA, 512), (STATUS, 1)][..]),
            (&[(HEADER, 16), (DATA, 512), (STATUS, 1)], &[]),
            (&[(HEADER, 15)], &[(STATUS, 1)]),
            (&[(HEADER, 0)], &[(STATUS, 0)]),
        ] {
            rig.memory.write_slice(&[0; 16], GuestAddress(HEADER)).unwrap();
            let head = rig.drivers[0].chain(out, into);
            rig.drivers[0].offer(head);
            rig.kick(0);
            assert_eq!(rig.wait(0).0, head);
        }
        assert_eq!(ask(&mut rig, 0, 0, &[], &[]), (0, 1), "a read of nothing");
        assert_eq!(ask(&mut rig, 0, 0, &[], &[(DATA, 512)]).0, 0);
        rig.bus.lock().unwrap().quiesce();
        let counts = &rig.bus.lock().unwrap().counts()[0];
        assert_eq!(counts.faults, 0);
    });
}

#[test]
fn thirty_two_at_once_one_interrupt_each_batch() {
    both("blk-deep", |mut rig, _| {
        let depth = 32_u64;
        let driver = &mut rig.drivers[0];
        driver.wake_after(depth as u16);
        for i in 0..depth {
            let header = u128::from(i) << 64;
            rig.memory.write_slice(&header.to_le_bytes(), GuestAddress(HEADER + 16 * i)).unwrap();
            let writable = [(DATA + 4096 * i, 4096), (STATUS + i, 1)];
            let head = driver.indirect(TABLE + 64 * i, &[(HEADER + 16 * i, 16)], &writable);
            driver.offer(head);
        }
        rig.kick(0);
        let mut heads: Vec<u16> = (0..depth).map(|_| rig.wait(0).0).collect();
        heads.sort_unstable();
        assert_eq!(heads, (0..32).collect::<Vec<u16>>());
        rig.bus.lock().unwrap().quiesce();
        assert_eq!(rig.machine.raised(1), 1);
        let queue = rig.bus.lock().unwrap().counts()[0].queues[0];
        assert_eq!((queue.kicks, queue.chains, queue.interrupts, queue.bytes), (1, 32, 1, 32 * 4096));
    });
}

#[test]
fn a_chain_without_room_for_a_status_comes_back_empty() {
    both("blk-nostatus", |mut rig, _| {
        let head = rig.drivers[0].chain(&[(HEADER, 16)], &[]);
        rig.drivers[0].offer(head);
        rig.kick(0);
        assert_eq!(rig.wait(0), (head, 0));
        assert_eq!(ask(&mut rig, 0, 0, &[], &[(DATA, 512)]).0, 0);
    });
}

#[test]
fn a_ring_that_makes_no_sense_needs_a_reset_and_gets_one() {
    both("blk-broken", |mut rig, _| {
        rig.drivers[0].offer(1000);
        rig.kick(0);
        rig.wait_broken();
        until(|| (rig.machine.raised(0) == 1).then_some(())); // told by the configuration interrupt
        rig.bring_up(64, 0);
        assert_eq!(ask(&mut rig, 0, 0, &[], &[(DATA, 512)]).0, 0);
    });
}

#[test]
fn reset_in_mid_request_lets_go_of_memory() {
    both("blk-reset", |mut rig, _| {
        for _ in 0..20 {
            for i in 0..16 {
                let head = rig.drivers[0].chain(&[(HEADER, 16)], &[(DATA + 0x1000 * i, 4096), (STATUS, 1)]);
                rig.drivers[0].offer(head);
            }
            rig.kick(0);
            rig.store(20, 1, 0);
            assert_eq!(rig.load(20, 1), 0);
            rig.bring_up(64, 0);
        }
        assert_eq!(ask(&mut rig, 0, 0, &[], &[(DATA, 512)]).0, 0);
    });
}

#[test]
fn read_only_and_direct() {
    for engine in [Engine::Sync, Engine::Uring] {
        // On a real filesystem: tmpfs knows O_DIRECT only lately.
        let path = image(&format!("blk-ro-{engine:?}"));
        let mut ro = rig(&path, engine, |options| options.read_only = true);
        assert_eq!(ask(&mut ro, 1, 0, &[(DATA, 512)], &[]).0, 1);
        assert_eq!(ask(&mut ro, 0, 0, &[], &[(DATA, 512)]).0, 0);
        drop(ro);
        let direct = Options { path: path.to_path_buf(), direct: true, ..Options::default() };
        if let Err(error) = Image::open(&direct) {
            eprintln!("skipped: {error}");
            continue;
        }
        let mut rig = rig(&path, engine, |options| options.direct = true);
        for at in [DATA, DATA + 1] {
            assert_eq!(ask(&mut rig, 0, 8, &[], &[(at, 8192)]).0, 0);
            let mut back = vec![0; 8192];
            rig.memory.read_slice(&mut back, GuestAddress(at)).unwrap();
            assert!(fs::read(&*path).unwrap()[4096..][..8192] == back);
            assert_eq!(ask(&mut rig, 1, 8, &[(at, 8192)], &[]).0, 0);
        }
    }
}

#[test]
fn registered_buffers_carry_the_same_bytes() {
    let path = image("blk-fixed");
    let direct = Options { path: path.to_path_buf(), direct: true, ..Options::default() };
    let image = match Image::open(&direct) {
        Ok(image) => image,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    // Anonymous, as a machine's is: pages of a file are not pinned for so long.
    let ranges = [(GuestAddress(0), 8 << 20), (GuestAddress(8 << 20), 8 << 20)];
    let memory = Arc::new(GuestMemoryMmap::from_ranges(&ranges).unwrap());
    let fresh = crate::sys::uring::Uring::<()>::new(1, image.file().as_fd());
    if let Err(error) = fresh.and_then(|mut uring| uring.register(&memory)) {
        return eprintln!("skipped: register 16 MiB: {error}");
    }
    let tuning = Tuning { resident: true, ..Tuning::default() };
    let disk = Blk::new("blk.0", image, Engine::Uring, 1, tuning).unwrap();
    let mut rig = Rig::on(Machine::default(), memory, Box::new(disk));
    rig.bring_up(64, 0);
    // One piece of a buffer; two; across the border of the two regions, each of which is a buffer; unaligned.
    let border = (8 << 20) - 4096;
    for pieces in
        [&[(DATA, 8192)][..], &[(DATA, 4096), (DATA + 0x8000, 4096)], &[(border, 8192)], &[(DATA + 1, 8192)]]
    {
        assert_eq!(ask(&mut rig, 0, 8, &[], pieces), (0, 8193));
        let mut back = Vec::new();
        for &(at, len) in pieces {
            let mut piece = vec![0; len as usize];
            rig.memory.read_slice(&mut piece, GuestAddress(at)).unwrap();
            back.extend(piece);
        }
        assert!(fs::read(&*path).unwrap()[4096..][..8192] == back);
        assert_eq!(ask(&mut rig, 1, 100, pieces, &[]), (0, 1));
        assert!(fs::read(&*path).unwrap()[51200..][..8192] == back);
    }
    assert_eq!(ask(&mut rig, 0, SECTORS - 8, &[], &[(DATA, 8192)]).0, 1, "beyond its end");
}

#[test]
fn without_irqfds_an_interrupt_is_a_call() {
    let path = image("blk-ioctl");
    let options = Options { path: path.to_path_buf(), ..Options::default() };
    let disk = Blk::new("blk.0", Image::open(&options).unwrap(), Engine::Sync, 1, Tuning::default()).unwrap();
    let machine = Machine { by_ioctl: true, ..Machine::default() };
    let mut rig = Rig::on(machine, crate::testing::machine::memory(), Box::new(disk));
    rig.bring_up(64, 0);
    assert_eq!(ask(&mut rig, 0, 0, &[], &[(DATA, 512)]).0, 0);
    rig.bus.lock().unwrap().quiesce();
    assert_eq!(rig.machine.asked.lock().unwrap().sent.iter().map(|m| m.data).collect::<Vec<_>>(), [1]);
}
