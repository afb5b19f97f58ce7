//! What a sender left to do and its receiver won't: checksums completed, long frames cut into segments.
//! The payload is still copied once; sums are taken where it has arrived.

use super::counts::Counters;
use super::frame::{ETHERNET, Gso, Header};
use super::port::Live;
use super::receiving::{NoPlace, Receiving};
use crate::sys::peer::{Cursor, Pieces};

/// Bytes of headers that are looked at: Ethernet with two tags, IP with options, TCP with options.
const MOST_HEADERS: usize = 22 + 60 + 60;
const VLAN: [u16; 2] = [0x8100, 0x88a8];
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const TCP: u8 = 6;
/// TCP flags that belong to the last segment only, and to the first.
const FIN_PSH: u8 = 0x09;
const CWR: u8 = 0x80;

/// A frame with work left.
pub struct Work {
    pub header: Header,
    pub start: Cursor,
    pub len: u32,
}

impl Work {
    /// Does what the receiver won't, and puts the frame, or its segments, into its buffers. Returns how
    /// many frames that made.
    pub fn place(
        &self,
        into: &mut Receiving,
        live: &mut Live,
        sent: &Pieces,
        counters: &Counters,
    ) -> Result<u64, NoPlace> {
        let only_sum = Header { checksum: self.header.checksum, gso: None };
        let sum = !only_sum.accepted(live.features);
        let Some(gso) = self.header.gso else {
            let header = Header::default();
            let first = into.used();
            into.place(live, &header, &[], sent, self.start, self.len)?;
            if let Some(checksum) = self.header.checksum {
                complete(into, first, live.header, checksum, self.len);
                counters.checksums.add(1);
            }
            return Ok(1);
        };
        let Some(headers) = Headers::read(sent, self.start, self.len, gso) else {
            // Not what it says it is: there is no way to cut it.
            return Err(NoPlace::TooLarge);
        };
        counters.segmented.add(1);
        self.cut(&headers, gso, sum, into, live, sent, counters)
    }

    #[allow(clippy::too_many_arguments)]
    fn cut(
        &self,
        headers: &Headers,
        gso: Gso,
        sum: bool,
        into: &mut Receiving,
        live: &mut Live,
        sent: &Pieces,
        counters: &Counters,
    ) -> Result<u64, NoPlace> {
        let payload = self.len as usize - headers.len;
        let (mut at, mut done, mut frames) = (self.start, 0, 0);
        sent.skip(&mut at, headers.len);
        while done < payload || frames == 0 {
            let here = usize::from(gso.size).min(payload - done);
            let bytes = headers.of_segment(frames as u16, done as u32, here, done + here == payload);
            let checksum = (headers.tcp as u16, 16);
            let header = Header { checksum: (!sum).then_some(checksum), gso: None };
            let (first, len) = (into.used(), (headers.len + here) as u32);
            match into.place(live, &header, &bytes[..headers.len], sent, at, len) {
                Ok(_) => {}
                // What was placed stays: a receiver asks its sender for the rest.
                Err(NoPlace::NoBuffer) if frames > 0 => {
                    counters.no_buffer.add(1);
                    return Ok(frames);
                }
                Err(error) => return Err(error),
            }
            if sum {
                complete(into, first, live.header, checksum, len);
                counters.checksums.add(1);
            }
            sent.skip(&mut at, here);
            done += here;
            frames += 1;
        }
        Ok(frames)
    }
}

/// Sums what has arrived from `start` on, and puts the result where it belongs.
fn complete(into: &Receiving, first: usize, header: usize, (start, offset): (u16, u16), len: u32) {
    let (pieces, mut at) = into.placed(first, header);
    pieces.skip(&mut at, start.into());
    let mut place = at;
    pieces.skip(&mut place, offset.into());
    // The field holds the sum of the pseudo header already.
    let sum = !pieces.sum(at, len as usize - usize::from(start));
    // RFC 768: a sum of zero goes out as all ones; for TCP both mean the same.
    let sum = if sum == 0 { 0xffff } else { sum };
    pieces.write(&mut place, &sum.to_be_bytes());
}

/// The headers of a TCP frame, and where each begins.
struct Headers {
    bytes: [u8; MOST_HEADERS],
    ip: usize,
    tcp: usize,
    len: usize,
    v6: bool,
}

impl Headers {
    fn read(sent: &Pieces, start: Cursor, len: u32, gso: Gso) -> Option<Headers> {
        let mut bytes = [0; MOST_HEADERS];
        let most = MOST_HEADERS.min(len as usize);
        let got = sent.read(&mut { start }, &mut bytes[..most]);
        let word = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
        let mut ip = ETHERNET;
        while VLAN.contains(&word(ip - 2)?) && ip < ETHERNET + 8 {
            ip += 4;
        }
        let tcp = match (word(ip - 2)?, gso.v6) {
            (IPV4, false) if bytes[ip] >> 4 == 4 && bytes[ip + 9] == TCP => {
                ip + 4 * usize::from(bytes[ip] & 15).max(5)
            }
            (IPV6, true) if bytes[ip] >> 4 == 6 && bytes[ip + 6] == TCP => ip + 40,
            _ => return None,
        };
        let end = tcp + 4 * usize::from(*bytes.get(tcp + 12)? >> 4).max(5);
        (end <= got).then_some(Headers { bytes, ip, tcp, len: end, v6: gso.v6 })
    }

    /// Those of a segment: its number, where its payload lies in the whole, how long it is.
    fn of_segment(&self, number: u16, done: u32, here: usize, last: bool) -> [u8; MOST_HEADERS] {
        let (mut bytes, ip, tcp, len) = (self.bytes, self.ip, self.tcp, self.len);
        let word = |bytes: &[u8], at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let put = |bytes: &mut [u8], at: usize, value: u16| {
            bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
        };
        let tcp_len = (len - tcp + here) as u16;
        if self.v6 {
            put(&mut bytes, ip + 4, (len - ip - 40 + here) as u16);
        } else {
            let id = word(&bytes, ip + 4).wrapping_add(number);
            put(&mut bytes, ip + 2, (len - ip + here) as u16);
            put(&mut bytes, ip + 4, id);
            put(&mut bytes, ip + 10, 0);
            let sum = !add(0, &bytes[ip..tcp]);
            put(&mut bytes, ip + 10, sum);
        }
        let sequence = u32::from_be_bytes([bytes[tcp + 4], bytes[tcp + 5], bytes[tcp + 6], bytes[tcp + 7]]);
        bytes[tcp + 4..tcp + 8].copy_from_slice(&sequence.wrapping_add(done).to_be_bytes());
        if !last {
            bytes[tcp + 13] &= !FIN_PSH;
        }
        if number > 0 {
            bytes[tcp + 13] &= !CWR;
        }
        // The pseudo header's sum, which whoever completes the checksum goes on from.
        let addresses = if self.v6 { ip + 8..ip + 40 } else { ip + 12..ip + 20 };
        let length = add(tcp_len, &bytes[addresses]);
        let pseudo = add(length, &u16::from(TCP).to_be_bytes());
        put(&mut bytes, tcp + 16, pseudo);
        bytes
    }
}

/// The ones' complement sum of 16-bit words (RFC 1071), from `sum` on.
fn add(sum: u16, bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&b| b.into()));
    let mut total = words.fold(u32::from(sum), |total, word| total + word);
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}
