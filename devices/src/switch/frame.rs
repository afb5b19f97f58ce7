//! What precedes every frame in a virtio-net buffer: `struct virtio_net_hdr` (virtio 1.2 §5.1.6).

use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_net::*;

/// Bytes of the header with `num_buffers`; without, two fewer.
pub const HEADER: usize = 12;
/// Bytes of an Ethernet header without tags: no frame is shorter.
pub const ETHERNET: usize = 14;
/// The longest frame: 64 KiB of segments to come, an Ethernet header and two tags.
pub const LONGEST: u32 = 65_536 + 22;

const NEEDS_CSUM: u8 = VIRTIO_NET_HDR_F_NEEDS_CSUM as u8;
const TCP4: u8 = VIRTIO_NET_HDR_GSO_TCPV4 as u8;
const TCP6: u8 = VIRTIO_NET_HDR_GSO_TCPV6 as u8;
const ECN: u8 = VIRTIO_NET_HDR_GSO_ECN as u8;

/// Bytes of the header under these features.
pub fn header_len(features: u64) -> usize {
    let wide = 1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_NET_F_MRG_RXBUF;
    if features & wide != 0 { HEADER } else { HEADER - 2 }
}

/// What a sender leaves to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// A checksum is to be completed: from `start` to the end, to be put `offset` behind `start`.
    pub checksum: Option<(u16, u16)>,
    /// Its segments.
    pub gso: Option<Gso>,
}

/// One frame that stands for many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gso {
    pub v6: bool,
    pub ecn: bool,
    /// Payload of each segment.
    pub size: u16,
    /// What the sender says of the length of all headers.
    pub headers: u16,
}

impl Header {
    /// What a sender that negotiated `features` says of its frame of `len` bytes; `None` where it
    /// promises more than it carries, or uses what it did not negotiate.
    #[inline]
    pub fn decode(words: (u64, u32), features: u64, len: u32) -> Option<Header> {
        // Flags and kind: nearly always both nothing.
        if words.0 & (0xff00 | u64::from(NEEDS_CSUM)) == 0 {
            return Some(Header::default());
        }
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(&words.0.to_le_bytes());
        bytes[8..].copy_from_slice(&words.1.to_le_bytes());
        Header::decode_work(&bytes, features, len)
    }

    fn decode_work(bytes: &[u8; HEADER], features: u64, len: u32) -> Option<Header> {
        let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let has = |bit: u32| features & 1 << bit != 0;
        let (headers, size, start, offset) = (word(2), word(4), word(6), word(8));
        // NEEDS_CSUM goes with every kind of segmentation (§5.1.6.2.1).
        let ends = u32::from(start) + u32::from(offset) + 2;
        if bytes[0] & NEEDS_CSUM == 0 || !has(VIRTIO_NET_F_CSUM) || ends > len {
            return None;
        }
        let checksum = Some((start, offset));
        let ecn = bytes[1] & ECN != 0;
        let v6 = match bytes[1] & !ECN {
            0 if !ecn => return Some(Header { checksum, gso: None }),
            TCP4 if has(VIRTIO_NET_F_HOST_TSO4) => false,
            TCP6 if has(VIRTIO_NET_F_HOST_TSO6) => true,
            _ => return None,
        };
        let fits = size > 0 && u32::from(headers) <= len && (!ecn || has(VIRTIO_NET_F_HOST_ECN));
        fits.then_some(Header { checksum, gso: Some(Gso { v6, ecn, size, headers }) })
    }

    /// For a receiver, in `buffers` buffers: its first eight bytes, and the rest.
    #[inline]
    pub fn encode(&self, buffers: u16) -> (u64, u32) {
        let checksum = self.checksum.map_or((0, 0, 0), |(start, offset)| (NEEDS_CSUM, start, offset));
        let (flags, start, offset) = checksum;
        let (kind, headers, size) = self.gso.map_or((0, 0, 0), |gso| {
            let kind = if gso.v6 { TCP6 } else { TCP4 } | if gso.ecn { ECN } else { 0 };
            (kind, gso.headers, gso.size)
        });
        let first = u64::from(flags) | u64::from(kind) << 8;
        let first = first | u64::from(headers) << 16 | u64::from(size) << 32 | u64::from(start) << 48;
        (first, u32::from(offset) | u32::from(buffers) << 16)
    }

    /// Whether a receiver that negotiated `features` takes a frame with this left to do.
    pub fn accepted(&self, features: u64) -> bool {
        let has = |bit: u32| features & 1 << bit != 0;
        let segments = |gso: Gso| {
            has(if gso.v6 { VIRTIO_NET_F_GUEST_TSO6 } else { VIRTIO_NET_F_GUEST_TSO4 })
                && (!gso.ecn || has(VIRTIO_NET_F_GUEST_ECN))
        };
        (self.checksum.is_none() || has(VIRTIO_NET_F_GUEST_CSUM)) && self.gso.is_none_or(segments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: u64 = u64::MAX;

    fn words(bytes: &[u8; HEADER]) -> (u64, u32) {
        let (first, rest) = bytes.split_at(8);
        (u64::from_le_bytes(first.try_into().unwrap()), u32::from_le_bytes(rest.try_into().unwrap()))
    }

    fn header(flags: u8, kind: u8, words: [u16; 4]) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        (bytes[0], bytes[1]) = (flags, kind);
        words.iter().enumerate().for_each(|(i, w)| bytes[2 + 2 * i..][..2].copy_from_slice(&w.to_le_bytes()));
        bytes
    }

    #[test]
    fn what_is_said_is_said_again() {
        for bytes in [
            header(0, 0, [0; 4]),
            header(NEEDS_CSUM, 0, [0, 0, 34, 16]),
            header(NEEDS_CSUM, TCP4, [54, 1448, 34, 16]),
            header(NEEDS_CSUM, TCP6 | ECN, [74, 1428, 54, 16]),
        ] {
            let decoded = Header::decode(words(&bytes), ALL, 2000).unwrap();
            assert_eq!(decoded.encode(0), words(&bytes));
        }
    }

    #[test]
    fn promises_that_the_frame_does_not_keep() {
        for (bytes, features) in [
            (header(NEEDS_CSUM, 0, [0, 0, 1983, 16]), ALL),
            (header(NEEDS_CSUM, 0, [0, 0, 0xffff, 0xffff]), ALL),
            (header(0, TCP4, [54, 1448, 34, 16]), ALL),
            (header(NEEDS_CSUM, TCP4, [54, 0, 34, 16]), ALL),
            (header(NEEDS_CSUM, TCP4, [2001, 1448, 34, 16]), ALL),
            (header(NEEDS_CSUM, 3, [54, 1448, 34, 16]), ALL),
            (header(NEEDS_CSUM, ECN, [54, 1448, 34, 16]), ALL),
            (header(NEEDS_CSUM, 0, [0, 0, 34, 16]), 0),
            (header(NEEDS_CSUM, TCP4, [54, 1448, 34, 16]), ALL & !(1 << VIRTIO_NET_F_HOST_TSO4)),
        ] {
            assert_eq!(Header::decode(words(&bytes), features, 2000), None, "{bytes:?}");
        }
    }

    #[test]
    fn a_receiver_is_left_with_what_it_took() {
        let csum = Header::decode(words(&header(NEEDS_CSUM, 0, [0, 0, 34, 16])), ALL, 100).unwrap();
        let tso = Header::decode(words(&header(NEEDS_CSUM, TCP4, [54, 1448, 34, 16])), ALL, 100).unwrap();
        let (some, all) = (1 << VIRTIO_NET_F_GUEST_CSUM, ALL);
        let accepted = |features| [Header::default(), csum, tso].map(|h| h.accepted(features));
        assert_eq!(
            (accepted(0), accepted(some), accepted(all)),
            ([true, false, false], [true, true, false], [true; 3])
        );
    }
}
