//! Frames: Ethernet, ARP (RFC 826), IPv4 (RFC 791) without options or fragments, UDP (RFC 768) without
//! checksum.

use core::ops::Range;

/// Ethernet, IPv4 and UDP headers.
pub const HEADERS: usize = ETHERNET + IP + UDP;
/// An ARP packet in its frame.
pub const ARP: usize = ETHERNET + 28;
const ETHERNET: usize = 14;
const IP: usize = 20;
const UDP: usize = 8;
/// Longest payload that needs no fragment.
pub const LONGEST: usize = 1500 - IP - UDP;

const TYPE_IP: [u8; 2] = [0x08, 0x00];
const TYPE_ARP: [u8; 2] = [0x08, 0x06];
const BROADCAST: Mac = [0xff; 6];
const PROTOCOL_UDP: u8 = 17;
const TIME_TO_LIVE: u8 = 64;
/// ARP for IPv4 over Ethernet, up to the operation.
const ARP_HEAD: [u8; 6] = [0, 1, 8, 0, 6, 4];
const ARP_REQUEST: u8 = 1;
const ARP_REPLY: u8 = 2;

pub type Mac = [u8; 6];
pub type Ip = [u8; 4];

/// One side of a datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct End {
    pub mac: Mac,
    pub ip: Ip,
    pub port: u16,
}

/// What a driver must know of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Arp,
    /// For this port.
    Udp(u16),
    Other,
}

/// Sorts a frame by its first bytes.
pub fn kind(head: &[u8; HEADERS]) -> Kind {
    match [head[12], head[13]] {
        TYPE_ARP => Kind::Arp,
        TYPE_IP if head[14] == 0x45 && head[23] == PROTOCOL_UDP => {
            Kind::Udp(u16::from_be_bytes([head[36], head[37]]))
        }
        _ => Kind::Other,
    }
}

/// The headers of a datagram.
pub fn datagram(from: &End, to: &End, payload: usize) -> [u8; HEADERS] {
    let mut head = [0; HEADERS];
    let mut put = |at: usize, bytes: &[u8]| head[at..at + bytes.len()].copy_from_slice(bytes);
    let udp = UDP + payload;
    put(0, &to.mac);
    put(6, &from.mac);
    put(12, &TYPE_IP);
    put(14, &[0x45]);
    put(16, &((IP + udp) as u16).to_be_bytes());
    // Don't fragment.
    put(20, &[0x40, 0, TIME_TO_LIVE, PROTOCOL_UDP]);
    put(26, &from.ip);
    put(30, &to.ip);
    put(34, &from.port.to_be_bytes());
    put(36, &to.port.to_be_bytes());
    put(38, &(udp as u16).to_be_bytes());
    let sum = checksum(&head[ETHERNET..ETHERNET + IP]);
    head[24..26].copy_from_slice(&sum.to_be_bytes());
    head
}

/// Who sent the datagram to `own` whose frame of `len` bytes begins like this, and where its payload is.
pub fn parse(head: &[u8; HEADERS], len: usize, own: Ip) -> Option<(End, Range<usize>)> {
    let word = |at: usize| usize::from(u16::from_be_bytes([head[at], head[at + 1]]));
    let fragment = word(20) & 0x3fff != 0;
    let sound = checksum(&head[ETHERNET..ETHERNET + IP]) == 0;
    if fragment || !sound || head[30..34] != own {
        return None;
    }
    // What is behind the datagram pads the frame.
    let (ip, udp) = (word(16), word(38));
    if udp < UDP || IP + udp > ip || ETHERNET + ip > len {
        return None;
    }
    let mut from = End { port: word(34) as u16, ..End::default() };
    from.mac.copy_from_slice(&head[6..12]);
    from.ip.copy_from_slice(&head[26..30]);
    Some((from, HEADERS..HEADERS + udp - UDP))
}

/// Asks who has `ip`.
pub fn ask(own: &End, ip: Ip) -> [u8; ARP] {
    arp(own, ARP_REQUEST, &End { mac: BROADCAST, ip, port: 0 })
}

fn arp(own: &End, operation: u8, to: &End) -> [u8; ARP] {
    let mut frame = [0; ARP];
    let mut put = |at: usize, bytes: &[u8]| frame[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &to.mac);
    put(6, &own.mac);
    put(12, &TYPE_ARP);
    put(14, &ARP_HEAD);
    put(20, &[0, operation]);
    put(22, &own.mac);
    put(28, &own.ip);
    put(32, if operation == ARP_REPLY { &to.mac } else { &[0; 6] });
    put(38, &to.ip);
    frame
}

/// What an ARP frame says: who its sender is, and the reply, if it asks for us.
pub fn hear(frame: &[u8; ARP], own: &End) -> Option<(End, Option<[u8; ARP]>)> {
    if frame[14..20] != ARP_HEAD {
        return None;
    }
    let mut sender = End::default();
    sender.mac.copy_from_slice(&frame[22..28]);
    sender.ip.copy_from_slice(&frame[28..32]);
    let asks = frame[20..22] == [0, ARP_REQUEST] && frame[38..42] == own.ip;
    Some((sender, asks.then(|| arp(own, ARP_REPLY, &sender))))
}

/// The Internet checksum (RFC 1071) of a whole number of words: 0 where one is included and holds.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.as_chunks::<2>().0.iter();
    let sum: u32 = words.map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: End = End { mac: [2, 0, 0, 0, 0, 1], ip: [10, 0, 0, 1], port: 1300 };
    const B: End = End { mac: [2, 0, 0, 0, 0, 2], ip: [10, 0, 0, 2], port: 77 };

    #[test]
    fn a_datagram_is_what_its_receiver_reads() {
        let head = datagram(&A, &B, 50);
        assert_eq!(kind(&head), Kind::Udp(77));
        assert_eq!(parse(&head, HEADERS + 50, B.ip), Some((A, HEADERS..HEADERS + 50)));
        assert_eq!(
            parse(&head, HEADERS + 60, B.ip),
            Some((A, HEADERS..HEADERS + 50)),
            "padding is none of it"
        );
        assert_eq!(parse(&head, HEADERS + 49, B.ip), None, "cut short");
        assert_eq!(parse(&head, HEADERS + 50, A.ip), None, "for somebody else");
        // A checksum known from elsewhere (RFC 1071's method on Wikipedia's example header).
        let example =
            [0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7];
        assert_eq!(checksum(&example), 0);
    }

    #[test]
    fn no_header_is_believed() {
        let good = datagram(&A, &B, 50);
        for (at, value) in
            [(16, 0xff), (18, 1), (20, 0x20), (24, 1), (26, 11), (38, 0xff), (39, 7), (39, 200)]
        {
            let mut head = good;
            head[at] = value;
            assert_eq!(parse(&head, HEADERS + 50, B.ip), None, "byte {at}");
        }
        for (at, value) in [(14, 0x46), (23, 6), (12, 9)] {
            let mut head = good;
            head[at] = value;
            assert_eq!(kind(&head), Kind::Other, "byte {at}");
        }
    }

    #[test]
    fn who_is_asked_for_answers() {
        let question = ask(&A, B.ip);
        let (sender, answer) = hear(&question, &B).unwrap();
        assert_eq!((sender.mac, sender.ip), (A.mac, A.ip));
        let answer = answer.unwrap();
        assert_eq!((&answer[..6], kind(&answer)), (&A.mac[..], Kind::Arp));
        let (sender, nothing) = hear(&answer, &A).unwrap();
        assert_eq!((sender.mac, sender.ip, nothing), (B.mac, B.ip, None));
        assert_eq!(hear(&ask(&A, [10, 0, 0, 9]), &B).unwrap().1, None);
        let mut other = question;
        other[18] = 8;
        assert_eq!(hear(&other, &B), None);
    }
}
