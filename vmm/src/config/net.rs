//! `--net`: a tap as a virtio network card, or a card whose frames another process carries.

use std::os::fd::RawFd;
use std::path::PathBuf;
use std::str::FromStr;

use devices::virtio::rate::Rate;

use super::keys::{self, KeyError};
use super::rate;

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
    pub rate: Rate,
}

/// What is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wire {
    /// A tap that exists, by name.
    Tap(String),
    /// Queues of a tap that were opened by whoever started us.
    Fds(Vec<RawFd>),
    /// A vhost-user backend that listens at this socket.
    VhostUser(PathBuf),
}

impl Net {
    /// Whether the kernel serves it, where `--vhost` is `usual`.
    pub fn by_kernel(&self, usual: bool) -> bool {
        let by_other = matches!(self.wire, Wire::VhostUser(_));
        !by_other && self.vhost.unwrap_or(usual)
    }
}

const KEYS: &[&str] = &["tap", "fd", "vhost-user", "mac", "queues", "offload", "vhost", "rate"];
/// Whoever serves it must see each frame.
pub const UNLIMITED: KeyError = KeyError::Whole("rate= limits what passes vmm: not vhost, not vhost-user");
/// IFNAMSIZ without its zero.
const NAME: usize = 15;

impl FromStr for Net {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Net, KeyError> {
        let (mut tap, mut fds, mut mac, mut queues, mut offload) = (None, None, None, None, true);
        let (mut vhost, mut socket, mut rate) = (None, None, Rate::default());
        for item in keys::items(text, KEYS)? {
            match item.key {
                "tap" => tap = Some(item.parse(name)?),
                "fd" => fds = Some(item.parse(descriptors)?),
                "vhost-user" => socket = Some(item.parse(keys::socket)?),
                "mac" => mac = Some(item.parse(self::mac)?),
                "queues" => queues = Some(item.parse(keys::queues)?),
                "rate" => rate = item.parse(rate::parse)?,
                "vhost" => vhost = Some(item.switch()?),
                _ => offload = item.switch()?,
            }
        }
        let (wire, queues) = match (tap, fds, socket) {
            (Some(name), None, None) => (Wire::Tap(name), queues.unwrap_or(1)),
            (None, None, Some(_)) if vhost == Some(true) => {
                return Err(KeyError::Whole("either vhost-user= or vhost=on: one of them serves"));
            }
            (None, None, Some(_)) if rate != Rate::default() => return Err(UNLIMITED),
            (None, None, Some(socket)) => (Wire::VhostUser(socket), queues.unwrap_or(1)),
            (None, Some(fds), None) => {
                let count = fds.len() as u16;
                if queues.is_some_and(|queues| queues != count) {
                    return Err(KeyError::Whole("one fd is needed for each queue pair: fd=3:4,queues=2"));
                }
                (Wire::Fds(fds), count)
            }
            (None, None, None) => {
                return Err(KeyError::Whole("names no interface; tap=NAME, fd=N or vhost-user=SOCKET"));
            }
            _ => return Err(KeyError::Whole("one of tap=, fd= and vhost-user=, not several")),
        };
        Ok(Net { wire, mac, queues, offload, vhost, rate })
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
        assert_eq!(
            net,
            Net {
                wire: Wire::Tap("t0".into()),
                mac,
                queues: 2,
                offload: false,
                vhost: None,
                rate: Rate::default()
            }
        );
        let net: Net = "tap=t0,rate=10ops".parse().unwrap();
        assert_eq!(net.rate.operations.map(u64::from), Some(10));
        assert_eq!("fd=3:4".parse::<Net>().unwrap().queues, 2);
        let net: Net = "vhost-user=/run/a.sock,queues=4".parse().unwrap();
        assert_eq!((net.wire, net.queues), (Wire::VhostUser("/run/a.sock".into()), 4));
    }

    #[test]
    fn who_serves_it() {
        let by_kernel = |text: &str, usual| text.parse::<Net>().unwrap().by_kernel(usual);
        assert!(by_kernel("tap=a,queues=2", true) && by_kernel("tap=a,vhost", false));
        assert!(!by_kernel("tap=a,vhost=off", true) && !by_kernel("vhost-user=a", true));
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
            "vhost-user=",
            "vhost-user=a,tap=b",
            "vhost-user=a,vhost",
            "vhost-user=a,rate=1M",
            "tap=a,rate=fast",
        ] {
            assert!(text.parse::<Net>().is_err(), "{text}");
        }
    }
}
