//! Checksums and segments between machines that took them and machines that did not.

use super::*;

const LEAVES: u64 =
    MERGEABLE | 1 << VIRTIO_NET_F_CSUM | 1 << VIRTIO_NET_F_HOST_TSO4 | 1 << VIRTIO_NET_F_HOST_TSO6;
const TAKES_SUMS: u64 = MERGEABLE | 1 << VIRTIO_NET_F_GUEST_CSUM;
const TAKES_ALL: u64 = TAKES_SUMS | 1 << VIRTIO_NET_F_GUEST_TSO4 | 1 << VIRTIO_NET_F_GUEST_TSO6;
const MSS: usize = 1000;

fn words(bytes: &[u8]) -> u32 {
    let sum: u32 = bytes.chunks(2).map(|w| u32::from(w[0]) << 8 | w.get(1).map_or(0, |&b| b.into())).sum();
    (sum & 0xffff) + (sum >> 16)
}

fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// A TCP frame with `payload`, its checksum left to do; and where TCP begins.
fn tcp(v6: bool, payload: usize) -> (Vec<u8>, usize) {
    let mut frame = frame(1, 0, 0)[..12].to_vec();
    let len = (20 + payload) as u16;
    let mut pseudo;
    if v6 {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend(len.to_be_bytes());
        frame.extend([6, 64]);
        let addresses = [[0xfd; 16], [0xfe; 16]].concat();
        pseudo = words(&addresses);
        frame.extend(addresses);
    } else {
        // A tag: the switch looks behind it.
        frame.extend([0x81, 0, 0, 7, 8, 0, 0x45, 0]);
        frame.extend((20 + len).to_be_bytes());
        frame.extend([0x12, 0xff, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        pseudo = words(&[10, 0, 0, 1, 10, 0, 0, 2]);
    }
    pseudo += 6 + u32::from(len);
    let at = frame.len();
    frame.extend([0x30, 0x39, 0, 80, 0xff, 0xff, 0xff, 0x00, 0, 0, 0, 1, 0x50, 0x19, 1, 0]);
    frame.extend(fold(pseudo).to_be_bytes());
    frame.extend([0, 0]);
    frame.extend((0..payload).map(|i| (i * 31 % 251) as u8));
    (frame, at)
}

fn header(at: usize, gso: u8, headers: usize) -> [u8; 12] {
    let mut header = [0; 12];
    header[..2].copy_from_slice(&[1, gso]);
    header[2..4].copy_from_slice(&(headers as u16).to_le_bytes());
    header[4..6].copy_from_slice(&(if gso == 0 { 0 } else { MSS as u16 }).to_le_bytes());
    header[6..8].copy_from_slice(&(at as u16).to_le_bytes());
    header[8..10].copy_from_slice(&16_u16.to_le_bytes());
    header
}

/// A complete TCP frame: its sum over everything with the pseudo header is all ones.
fn sum_is_right(frame: &[u8], at: usize, v6: bool) -> bool {
    let addresses = if v6 { at - 32..at } else { at - 8..at };
    let total = words(&frame[addresses]) + 6 + (frame.len() - at) as u32 + words(&frame[at..]);
    fold(total) == 0xffff
}

#[test]
fn what_both_took_passes_through() {
    let bench = Bench::new(2, 1, Full::Drop);
    let mut from = Front::run(&bench.paths[0], LEAVES, 1);
    let mut to = Front::run(&bench.paths[1], TAKES_ALL, 1);
    to.post(0, &[4096], 16);
    for v6 in [false, true] {
        let (frame, at) = tcp(v6, 5000);
        let said = header(at, if v6 { 4 } else { 1 }, at + 20);
        from.send_parts(0, said, &frame, &[12]);
        let (heard, arrived) = soon(|| to.arrived(0));
        assert_eq!((arrived, &heard[..10]), (frame, &said[..10]));
    }
    let counts = bench.counts().ports[1].pairs[0].receive;
    assert_eq!((counts.checksums, counts.segmented), (0, 0));
}

#[test]
fn a_checksum_is_completed_for_who_did_not_take_it() {
    let bench = Bench::new(2, 1, Full::Drop);
    let mut from = Front::run(&bench.paths[0], LEAVES, 1);
    let mut to = Front::run(&bench.paths[1], MERGEABLE, 1);
    // Buffers of odd lengths: the sum goes on across them.
    to.post(0, &[301, 200], 16);
    for v6 in [false, true] {
        let (mut frame, at) = tcp(v6, 1001);
        from.send_parts(0, header(at, 0, 0), &frame, &[]);
        let (heard, arrived) = soon(|| to.arrived(0));
        assert_eq!(heard[..10], [0; 10]);
        assert!(sum_is_right(&arrived, at, v6));
        frame[at + 16..at + 18].copy_from_slice(&arrived[at + 16..at + 18]);
        assert_eq!(arrived, frame, "nothing else has changed");
    }
    assert_eq!(
        bench.settled(|c| c.ports[1].pairs[0].receive.packets == 2).ports[1].pairs[0].receive.checksums,
        2
    );
}

#[test]
fn a_long_frame_is_cut_for_who_takes_no_segmentation() {
    for (features, sums) in [(MERGEABLE, true), (TAKES_SUMS, false), (PLAIN, true)] {
        for v6 in [false, true] {
            let bench = Bench::new(2, 1, Full::Drop);
            let mut from = Front::run(&bench.paths[0], LEAVES, 1);
            let mut to = Front::run(&bench.paths[1], features, 1);
            to.post(0, &[2000], 16);
            let payload = 3 * MSS + 500;
            let (frame, at) = tcp(v6, payload);
            from.send_parts(0, header(at, if v6 { 4 } else { 1 }, at + 20), &frame, &[12, 30]);
            let mut whole = Vec::new();
            for number in 0..4_usize {
                let (heard, segment) = soon(|| to.arrived(0));
                let here = MSS.min(payload - number * MSS);
                assert_eq!(segment.len(), at + 20 + here);
                assert_eq!(heard[0], u8::from(!sums), "who takes sums is left with them");
                assert_eq!(heard[1], 0);
                if sums {
                    assert!(sum_is_right(&segment, at, v6), "segment {number}");
                }
                let sequence = u32::from_be_bytes(segment[at + 4..at + 8].try_into().unwrap());
                assert_eq!(sequence, 0xffff_ff00_u32.wrapping_add((number * MSS) as u32));
                let flags = segment[at + 13];
                assert_eq!(flags, if number == 3 { 0x19 } else { 0x10 }, "FIN and PSH with the last only");
                if v6 {
                    assert_eq!(segment[18..20], ((20 + here) as u16).to_be_bytes());
                } else {
                    let ip = at - 20;
                    assert_eq!(fold(words(&segment[ip..at])), 0xffff, "the IP header's own sum");
                    assert_eq!(segment[ip + 2..ip + 4], ((40 + here) as u16).to_be_bytes());
                    assert_eq!(segment[ip + 4..ip + 6], (0x12ff + number as u16).to_be_bytes());
                }
                whole.extend_from_slice(&segment[at + 20..]);
            }
            assert_eq!(whole, frame[at + 20..]);
            let counts = bench.settled(|c| c.ports[1].pairs[0].receive.packets == 4);
            assert_eq!(counts.ports[1].pairs[0].receive.segmented, 1);
        }
    }
}

#[test]
fn what_only_claims_to_be_tcp_is_dropped() {
    let bench = Bench::new(2, 1, Full::Drop);
    let mut from = Front::run(&bench.paths[0], LEAVES, 1);
    let mut to = Front::run(&bench.paths[1], MERGEABLE, 1);
    to.post(0, &[2000], 16);
    let (frame, at) = tcp(false, 3000);
    let mut udp = frame.clone();
    udp[at - 20 + 9] = 17;
    // TCP options that reach beyond the frame, too.
    let mut short = frame[..at + 24].to_vec();
    short[at + 12] = 0xf0;
    for bad in [&udp, &short] {
        from.send_parts(0, header(at, 1, at + 20), bad, &[]);
    }
    from.send_parts(0, header(at, 4, at + 20), &frame, &[]);
    let counts = bench.settled(|c| c.ports[1].pairs.first().is_some_and(|p| p.receive.drops.total() == 3));
    assert_eq!(counts.ports[1].pairs[0].receive.packets, 0);
}
