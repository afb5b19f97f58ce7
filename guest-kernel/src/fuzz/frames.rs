//! What arrives.

use crate::net::frame::{self, ARP, End, HEADERS, Kind};

/// Headers of frames, each with a length before it.
pub fn frames(mut data: &[u8]) {
    let own = End { mac: [2, 0, 0, 0, 0, 1], ip: [10, 0, 0, 1], port: 7 };
    while let Some((&[low, high], rest)) = data.split_first_chunk() {
        let Some((head, rest)) = rest.split_first_chunk::<HEADERS>() else { return };
        data = rest;
        let len = usize::from(u16::from_le_bytes([low, high]));
        if let Some((_, payload)) = frame::parse(head, len, own.ip) {
            assert!(payload.start == HEADERS && payload.start <= payload.end && payload.end <= len);
        }
        if let (Kind::Arp, Some(arp)) = (frame::kind(head), head.first_chunk::<ARP>()) {
            frame::hear(arp, &own);
        }
    }
}
