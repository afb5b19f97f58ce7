//! Front ends that do everything wrong. Each time two honest ones go on through the same switch.

use std::io::Write;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;

use front::{MEMORY, USER};
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::fuzz::memory_file;
use crate::sys::event;
use crate::testing::driver::{INDIRECT, NEXT, WRITE};
use crate::vhost_user::message::*;

/// Runs `wrong` on the third port, and asserts that its connection ended with `why` in its complaint.
fn refused(why: &str, wrong: impl FnOnce(&str)) {
    let bench = Bench::new(3, 1, Full::Drop);
    let mut honest: Vec<Front> = bench.paths[..2].iter().map(|path| Front::run(path, MERGEABLE, 1)).collect();
    honest.iter_mut().for_each(|front| front.post(0, &[2048], 32));
    wrong(&bench.paths[2]);
    let counts = bench.settled(|counts| counts.ports[2].errors > 0 && !counts.ports[2].connected);
    let error = counts.ports[2].last_error.clone().unwrap_or_default();
    assert!(error.contains(why), "{why:?} is not in {error:?}");
    honest[0].send(&frame(1, 0, 1));
    assert_eq!(honest[1].receive(), frame(1, 0, 1));
    // The port itself takes the next peer.
    let mut next = Front::run(&bench.paths[2], MERGEABLE, 1);
    next.post(0, &[2048], 4);
    next.send(&frame(0, 2, 2));
    assert_eq!(honest[0].receive(), frame(0, 2, 2));
}

/// A request without an acknowledgement that anyone waits for.
fn tell(front: &Front, request: Request, fds: &[BorrowedFd<'_>]) {
    // The switch may have hung up already.
    let _ = front.channel.ask(&request, false, fds);
}

fn raw(path: &str, code: u32, flags: u32, size: u32, payload: &[u8]) -> UnixStream {
    let mut stream = UnixStream::connect(path).unwrap();
    let header = [code, flags, size].map(u32::to_ne_bytes).concat();
    stream.write_all(&[&header, payload].concat()).unwrap();
    stream
}

#[test]
fn messages_that_are_none() {
    refused("version 0", |path| drop(raw(path, 1, 0, 0, &[])));
    refused("payload of 4294967295 bytes", |path| drop(raw(path, 2, 1, u32::MAX, &[])));
    refused("request 99", |path| drop(raw(path, 99, 1, 0, &[])));
    refused("SetFeatures with a payload of 4 bytes", |path| drop(raw(path, 2, 1, 4, &[0; 4])));
    refused("in the middle of a message", |path| drop(raw(path, 2, 1, 8, &[0; 3])));
}

#[test]
fn a_peer_that_stops_in_mid_message_or_never_reads_keeps_nobody_waiting() {
    refused("did not answer within 2 s", |path| {
        let stream = raw(path, 2, 1, 8, &[0; 3]);
        // Held until the switch has had enough.
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs(4));
            drop(stream);
        });
    });
    refused("did not answer within 2 s", |path| {
        let mut stream = UnixStream::connect(path).unwrap();
        stream.set_nonblocking(true).unwrap();
        let header = [1_u32, 1, 0].map(u32::to_ne_bytes).concat();
        std::thread::spawn(move || {
            let deadline = std::time::Instant::now() + Duration::from_secs(6);
            while std::time::Instant::now() < deadline {
                if stream.write_all(&header).is_err() {
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        });
    });
}

#[test]
fn messages_out_of_order_and_values_that_are_none() {
    let state = |index, value| RingState { index, value };
    let greeted = |path: &str| {
        let mut front = Front::connect(path);
        front.greet(MERGEABLE);
        front
    };
    refused("SetVringNum before SetOwner", |path| {
        tell(&Front::connect(path), Request::SetVringNum(state(0, 64)), &[]);
    });
    for (why, request) in [
        ("SetFeatures with bits 0x8000000000000000", Request::SetFeatures(1 << 63)),
        ("SetProtocolFeatures with bits 0x4", Request::SetProtocolFeatures(4)),
        ("SetVringNum for ring 32", Request::SetVringNum(state(32, 64))),
        ("SetVringNum of 0", Request::SetVringNum(state(0, 0))),
        ("SetVringNum of 65536", Request::SetVringNum(state(0, 65536))),
        ("SetVringEnable of 2", Request::SetVringEnable(state(0, 2))),
        ("GetVringBase for ring 4294967295", Request::GetVringBase(state(u32::MAX, 0))),
        ("NetSetMtu", Request::NetSetMtu(1500)),
        ("no memory region at 0x5", Request::RemMemReg(Region { guest: 5, size: 1, user: 1, offset: 0 })),
    ] {
        refused(why, |path| tell(&greeted(path), request, &[]));
    }
    refused("AddMemReg without its protocol feature", |path| {
        let front = Front::connect(path);
        tell(&front, Request::SetOwner, &[]);
        let region = Request::AddMemReg(Region { guest: 0, size: 4096, user: USER, offset: 0 });
        tell(&front, region, &[front.file.as_fd()]);
    });
}

#[test]
fn too_many_fds_none_or_of_the_wrong_kind() {
    let region = Region { guest: 0, size: MEMORY, user: USER, offset: 0 };
    let kick = Request::SetVringKick(RingFd { index: 0, present: true });
    for (why, request, count) in [
        ("SetMemTable with 0 file descriptors", Request::SetMemTable(vec![region]), 0),
        ("SetMemTable with 2 file descriptors", Request::SetMemTable(vec![region]), 2),
        ("SetOwner with 1 file descriptors", Request::SetOwner, 1),
        ("more than 8 file descriptors", Request::SetOwner, 20),
        ("SetVringKick with 0 file descriptors", kick.clone(), 0),
        ("SetVringKick with an fd that is no eventfd", kick, 1),
    ] {
        refused(why, |path| {
            let front = Front::connect(path);
            tell(&front, Request::SetOwner, &[]);
            tell(&front, request, &vec![front.file.as_fd(); count]);
        });
    }
}

#[test]
fn memory_regions_that_overlap_wrap_or_are_not_there() {
    let region = |guest, size, user, offset| Region { guest, size, user, offset };
    let page = 4096;
    for (why, regions) in [
        ("is empty", vec![region(0, 0, USER, 0)]),
        ("wraps around", vec![region(u64::MAX - page + 1, 2 * page, USER, 0)]),
        ("wraps around", vec![region(0, page, u64::MAX - 5, 0)]),
        ("wraps around", vec![region(0, page, USER, u64::MAX)]),
        ("overlaps", vec![region(0, 2 * page, USER, 0), region(page, page, 2 * USER, 0)]),
        ("overlaps", vec![region(0, 2 * page, USER, 0), region(8 * page, page, USER + page, 0)]),
        ("of a file of 16777216", vec![region(0, MEMORY + 1, USER, 0)]),
        ("of a file of 16777216", vec![region(0, page, USER, MEMORY)]),
        ("of a file of 16777216", vec![region(0, 1 << 62, USER, 1 << 61)]),
    ] {
        refused(why, |path| {
            let front = Front::connect(path);
            tell(&front, Request::SetOwner, &[]);
            let fds = vec![front.file.as_fd(); regions.len()];
            tell(&front, Request::SetMemTable(regions), &fds);
        });
    }
    refused("neither tmpfs", |path| {
        let front = Front::connect(path);
        tell(&front, Request::SetOwner, &[]);
        let null = std::fs::File::open("/proc/self/maps").unwrap();
        tell(&front, Request::SetMemTable(vec![region(0, 4096, USER, 0)]), &[null.as_fd()]);
    });
}

#[test]
fn more_regions_than_there_are_slots() {
    refused("more than 64 memory regions", |path| {
        let mut front = Front::connect(path);
        front.greet(MERGEABLE);
        for number in 1..=64 {
            let at = MEMORY + number * 4096;
            let region = Region { guest: at, size: 4096, user: USER + at, offset: 0 };
            let done = front.ask(Request::AddMemReg(region), &[front.file.as_fd()]).unwrap();
            assert_eq!(done, u64::from(number == 64), "{number}");
        }
    });
}

#[test]
fn rings_outside_memory() {
    for place in [MEMORY - 8, MEMORY, 1 << 40] {
        refused("descriptor table", |path| {
            let mut front = Front::connect(path);
            front.greet(MERGEABLE);
            let state = |value| RingState { index: 1, value };
            tell(&front, Request::SetVringNum(state(64)), &[]);
            let addresses = Addresses {
                index: 1,
                flags: 0,
                descriptors: USER + place,
                used: USER,
                available: USER,
                log: 0,
            };
            tell(&front, Request::SetVringAddr(addresses), &[]);
            tell(&front, Request::SetVringEnable(state(1)), &[]);
            tell(&front, Request::SetVringKick(RingFd { index: 1, present: false }), &[]);
        });
    }
}

/// A ring that makes no sense ends that ring, is said, and leaves the connection for setting it up anew.
#[test]
fn chains_and_indices_that_make_no_sense() {
    type Bad = (&'static str, fn(&mut Front));
    let bad: [Bad; 9] = [
        ("more than a queue ahead", |front| front.pairs[0].send.publish(65)),
        ("or behind it", |front| front.pairs[0].send.publish(u16::MAX)),
        ("is beyond the table", |front| front.pairs[0].send.offer(64)),
        ("is a loop", |front| one(front, (0x1000, 64), NEXT, 0)),
        ("is not all in guest memory", |front| one(front, (MEMORY - 8, 64), 0, 0)),
        ("readable descriptor after a writable", |front| one(front, (0x1000, 64), WRITE, 0)),
        ("indirect table of 60 bytes", |front| one(front, (0x1000, 60), INDIRECT, 0)),
        ("is not all in guest memory", |front| one(front, (MEMORY, 64), INDIRECT, 0)),
        ("is not all in guest memory", |front| one(front, (u64::MAX - 8, 64), 0, 0)),
    ];
    for (why, act) in bad {
        let bench = Bench::new(3, 1, Full::Drop);
        let mut fronts = bench.fronts(MERGEABLE);
        fronts[1].post(0, &[2048], 8);
        act(&mut fronts[2]);
        fronts[2].pairs[0].kicks[1].write(1).unwrap();
        let counts = bench.settled(|counts| counts.ports[2].errors > 0);
        let error = counts.ports[2].last_error.clone().unwrap();
        assert!(error.contains(why) && counts.ports[2].connected, "{why:?} is not in {error:?}");
        fronts[0].send(&frame(1, 0, 1));
        assert_eq!(fronts[1].receive(), frame(1, 0, 1));
        // Set up anew, it is served again.
        fronts[2].stop_ring(1);
        let fresh = crate::testing::driver::Driver::new(&fronts[2].memory, 0x11_0000, SIZE);
        fronts[2].pairs[0].send = fresh;
        fronts[2].start_ring(1, 0);
        fronts[2].send(&frame(1, 2, 2));
        assert_eq!(fronts[1].receive(), frame(1, 2, 2));
    }
}

fn one(front: &mut Front, buffer: (u64, u32), flags: u16, next: u16) {
    let queues = &mut front.pairs[0];
    queues.send.describe(queues.send.layout.descriptors, 0, buffer, flags, next);
    queues.send.offer(0);
}

#[test]
fn memory_that_is_cut_short_under_way_ends_its_own_connection() {
    for receiver in [false, true] {
        let bench = Bench::new(3, 1, Full::Drop);
        let mut fronts = bench.fronts(MERGEABLE);
        fronts[1].post(0, &[2048], 8);
        fronts[2].post(0, &[2048], 8);
        // Its rings stay (they lie in the first 4 MiB), the buffers go.
        if receiver {
            fronts[2].file.set_len(8 << 20).unwrap();
            fronts[0].send(&frame(9, 0, 1));
            assert_eq!(fronts[1].receive(), frame(9, 0, 1));
        } else {
            fronts[2].send(&frame(9, 2, 1));
            assert_eq!(fronts[1].receive(), frame(9, 2, 1));
            // Written while it is still there; offered when it is gone.
            let queues = &mut fronts[2].pairs[0];
            let head = queues.send.chain(&[(0x70_0000, 76)], &[]);
            fronts[2].file.set_len(4 << 20).unwrap();
            fronts[2].pairs[0].send.offer(head);
            fronts[2].pairs[0].kicks[1].write(1).unwrap();
        }
        let counts = bench.settled(|counts| !counts.ports[2].connected);
        let error = counts.ports[2].last_error.clone().unwrap();
        assert!(error.contains("cut short"), "{error}");
        fronts[0].send(&frame(1, 0, 3));
        soon(|| fronts[1].arrived(0).filter(|(_, frame)| frame[14] == 3));
    }
}

#[test]
fn memory_that_was_never_given() {
    let file = memory_file(4096);
    let mut front_memory = [0; 4];
    let bench = Bench::new(2, 1, Full::Drop);
    let mut fronts = bench.fronts(MERGEABLE);
    fronts[1].post(0, &[2048], 8);
    // Of two machines, neither can name the other's memory: the same numbers mean its own.
    fronts[1].memory.write_slice(b"mine", GuestAddress(0x40_0000 + 12 + 14)).unwrap();
    fronts[0].send(&frame(1, 0, 5));
    assert_eq!(fronts[1].receive(), frame(1, 0, 5));
    fronts[1].memory.read_slice(&mut front_memory, GuestAddress(0x40_0000 + 12 + 14)).unwrap();
    assert_eq!((&front_memory, file.metadata().unwrap().len()), (b"mine", 4096));
}

#[test]
fn a_peer_whose_event_is_full_keeps_nobody_waiting() {
    let bench = Bench::new(3, 1, Full::Drop);
    let mut fronts = bench.fronts(MERGEABLE);
    fronts.iter_mut().for_each(|front| front.post(0, &[2048], 32));
    for call in &fronts[1].pairs[0].calls {
        // Both have the same open file: it makes its writers wait again.
        event::set_blocking(call);
        call.read().expect("it was rung when it was given");
        call.write(u64::MAX - 1).expect("all that it holds");
    }
    for mark in 0..4 {
        // The one worker floods it to both.
        fronts[0].send(&frame(9, 0, mark));
        assert_eq!(fronts[1].receive(), frame(9, 0, mark));
        assert_eq!(fronts[2].receive(), frame(9, 0, mark));
        fronts[1].send(&frame(0, 1, mark));
        assert_eq!(fronts[0].receive(), frame(0, 1, mark));
    }
}
