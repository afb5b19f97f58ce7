//! `--net`: a tap as a virtio network card.

use std::os::fd::RawFd;
use std::str::FromStr;

use super::keys::{self, KeyError};

/// One network card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Net {
    pub wire: Wire,
    /// `None`: made from the interface's name.
    pub mac: Option<[u8; 6]>,
    /// Queue pairs.
    pub queues: u16,
    /// Checksum and segmentation offload, both ways.
    pub offload: bool,
    /// The kernel's vhost-net serves it; `None`: as `--vhost` says.
    pub vhost: Option<bool>,
}

/// What is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wire {
    /// A tap that exists, by name.
    Tap(String),
    /// Queues of a tap that were opened by whoever started us.
    Fds(Vec<RawFd>),
}

impl Net {
    /// Whether the kernel serves it, where `--vhost` is `usual`.
    pub fn by_kernel(&self, usual: bool) -> bool {
        self.vhost.unwrap_or(usual && self.queues == 1)
    }
}

const KEYS: &[&str] = &["tap", "fd", "mac", "queues", "offload", "vhost"];
/// IFNAMSIZ without its zero.
const NAME: usize = 15;

impl FromStr for Net {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Net, KeyError> {
        let (mut tap, mut fds, mut mac, mut queues, mut offload) = (None, None, None, None, true);
        let mut vhost = None;
        for item in keys::items(text, KEYS)? {
            match item.key {
                "tap" => tap = Some(item.parse(name)?),
                "fd" => fds = Some(item.parse(descriptors)?),
                "mac" => mac = Some(item.parse(self::mac)?),
                "queues" => queues = Some(item.parse(keys::queues)?),
                "vhost" => vhost = Some(item.switch()?),
                _ => offload = item.switch()?,
            }
        }
        let (wire, queues) = match (tap, fds) {
            (Some(name), None) => (Wire::Tap(name), queues.unwrap_or(1)),
            (None, Some(fds)) => {
                let count = fds.len() as u16;
                if queues.is_some_and(|queues| queues != count) {
                    return Err(KeyError::Whole("one fd is needed for each queue pair: fd=3:4,queues=2"));
                }
                (Wire::Fds(fds), count)
            }
            (Some(_), Some(_)) => return Err(KeyError::Whole("either tap= or fd=, not both")),
            (None, None) => return Err(KeyError::Whole("names no interface; tap=NAME or fd=N")),
        };
        if vhost == Some(true) && queues > 1 {
            return Err(KeyError::Whole("vhost=on serves one queue pair; leave queues= out"));
        }
        Ok(Net { wire, mac, queues, offload, vhost })
    }
}

fn name(text: &str) -> Result<String, &'static str> {
    let valid = text.len() <= NAME && !text.contains(['/', ' ', ':']) && text != "." && text != "..";
    if valid { Ok(text.into()) } else { Err("not the name of an interface, 15 bytes at most") }
}

fn descriptors(text: &str) -> Result<Vec<RawFd>, &'static str> {
    let fds: Vec<RawFd> =
        text.split(':').map(str::parse).collect::<Result<_, _>>().map_err(|_| "not a number, or N:N:…")?;
    let fine = fds.len() <= 16
        && fds.iter().all(|fd| *fd > 2)
        && (1..fds.len()).all(|i| !fds[..i].contains(&fds[i]));
    if fine { Ok(fds) } else { Err("file descriptors from 3 on, each once, 16 at most") }
}

fn mac(text: &str) -> Result<[u8; 6], &'static str> {
    let form = "not of the form 02:00:00:00:00:01";
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let digits = |part: &&str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
        let part = parts.next().filter(digits).ok_or(form)?;
        *byte = u8::from_str_radix(part, 16).map_err(|_| form)?;
    }
    if parts.next().is_some() {
        return Err(form);
    }
    if mac[0] & 1 != 0 { Err("a group address; the first byte must be even") } else { Ok(mac) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_it_is_written() {
        let net: Net = "tap=t0,mac=02:00:00:00:00:aF,queues=2,offload=off".parse().unwrap();
        let mac = Some([2, 0, 0, 0, 0, 0xaf]);
        assert_eq!(net, Net { wire: Wire::Tap("t0".into()), mac, queues: 2, offload: false, vhost: None });
        assert_eq!("fd=3:4".parse::<Net>().unwrap().queues, 2);
    }

    #[test]
    fn what_is_no_card() {
        for text in [
            "",
            "mac=02:00:00:00:00:01",
            "tap=a,fd=3",
            "tap=",
            "tap=sixteen-bytes-xy",
            "tap=a/b",
            "fd=1",
            "fd=3:3",
            "fd=x",
            "fd=3,queues=2",
            "tap=a,mac=02:00:00:00:00",
            "tap=a,mac=01:00:00:00:00:00",
            "tap=a,queues=0",
            "tap=a,mac=2:0:0:0:0:1",
            "tap=a,mac=+2:00:00:00:00:01",
            "tap=a,offload=maybe",
            "tap=a,vhost,queues=2",
        ] {
            assert!(text.parse::<Net>().is_err(), "{text}");
        }
    }
}
