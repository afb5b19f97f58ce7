//! The interface on the host: opened and checked before the guest starts. Where it can't be used, the
//! error says who owns it, with which flags, and the `ip` line that mends it.

use std::fs::{self, File};
use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU32, Ordering};

use virtio_bindings::virtio_net::*;

use super::HEADER;
use super::control::Pairs;
use crate::sys::tap::{self, MULTI_QUEUE, NO_PI, TAP, VNET_HDR};

/// A tap, one file for each queue pair.
#[derive(Debug)]
pub struct Tap {
    name: String,
    queues: Vec<File>,
    /// As last set.
    offload: AtomicU32,
}

/// Why a tap can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    #[error("open tap {name}: no such interface; create it: ip tuntap add {name} mode tap vnet_hdr{multi} && ip link set {name} up", multi = if *.many { " multi_queue" } else { "" })]
    Missing { name: String, many: bool },
    #[error("open tap {name}: it is no tap, but another kind of interface")]
    Type { name: String },
    #[error("open tap {name}: in use by another process")]
    Busy { name: String },
    #[error("open tap {name}: it was made {}, {} asked; make it again: ip link del {name}; ip tuntap add {name} mode tap vnet_hdr{}", if *.many { "for one queue" } else { "multi_queue" }, if *.many { "several queues were" } else { "one queue was" }, if *.many { " multi_queue" } else { "" })]
    Queues { name: String, many: bool },
    #[error("open tap {name}: {source}; owner {owner}, flags {flags}")]
    Open { name: String, owner: String, flags: String, source: io::Error },
    #[error("use fd {fd} as a tap: {source}")]
    Fd { fd: RawFd, source: io::Error },
    #[error("use fd {fd} as a tap: {name} was opened without IFF_VNET_HDR or with packet information")]
    Flags { fd: RawFd, name: String },
    #[error("set up tap {name}: {source}")]
    SetUp { name: String, source: io::Error },
}

fn attribute(name: &str, file: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/sys/class/net/{name}/{file}")).ok()?;
    Some(text.trim().to_string())
}

impl Tap {
    /// Opens the tap called `name`, which must exist, with `pairs` queue pairs.
    pub fn open(name: &str, pairs: u16) -> Result<Tap, TapError> {
        let (owned, many) = (|| name.to_string(), pairs > 1);
        let Some(_) = attribute(name, "ifindex") else {
            return Err(TapError::Missing { name: owned(), many });
        };
        let Some(flags) = attribute(name, "tun_flags") else { return Err(TapError::Type { name: owned() }) };
        let bits = i64::from_str_radix(flags.trim_start_matches("0x"), 16).unwrap_or_default();
        // A tap made by `ip` knows whether it is for several queues, and does not change its mind.
        if (bits & i64::from(MULTI_QUEUE) != 0) != many {
            return Err(TapError::Queues { name: owned(), many });
        }
        let wanted = TAP | NO_PI | VNET_HDR | if many { MULTI_QUEUE } else { 0 };
        let queue = |_| {
            tap::open(name, wanted).map_err(|source| match source.raw_os_error() {
                Some(libc::EBUSY) => TapError::Busy { name: owned() },
                _ => {
                    let owner = match attribute(name, "owner").as_deref() {
                        Some("-1") | None => "root".into(),
                        Some(uid) => format!("uid {uid}"),
                    };
                    TapError::Open { name: owned(), owner, flags: flags.clone(), source }
                }
            })
        };
        Tap {
            name: owned(),
            queues: (0..pairs).map(queue).collect::<Result<_, _>>()?,
            offload: AtomicU32::new(0),
        }
        .set_up()
    }

    /// Takes over queues of one tap that were opened by someone else.
    pub fn inherit(fds: &[RawFd]) -> Result<Tap, TapError> {
        let (mut name, mut queues) = (String::new(), Vec::new());
        for &fd in fds {
            let error = |source| TapError::Fd { fd, source };
            let file = tap::inherit(fd).map_err(error)?;
            let (interface, flags) = tap::interface(&file).map_err(error)?;
            if flags & (TAP | NO_PI | VNET_HDR) != TAP | NO_PI | VNET_HDR {
                return Err(TapError::Flags { fd, name: interface });
            }
            name = interface;
            queues.push(file);
        }
        Tap { name, queues, offload: AtomicU32::new(0) }.set_up()
    }

    fn set_up(self) -> Result<Tap, TapError> {
        for queue in &self.queues {
            tap::set_header(queue, HEADER as i32)
                .and_then(|()| tap::set_offload(queue, 0))
                .map_err(|source| TapError::SetUp { name: self.name.clone(), source })?;
        }
        Ok(self)
    }

    /// Any file that keeps frames apart, in place of a tap.
    #[cfg(test)]
    pub fn fake(file: File) -> Tap {
        Tap { name: String::new(), queues: vec![file], offload: AtomicU32::new(0) }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Queue pairs.
    pub fn pairs(&self) -> u16 {
        self.queues.len() as u16
    }

    /// The interface's MTU, where it can be known.
    pub fn mtu(&self) -> Option<u16> {
        attribute(&self.name, "mtu")?.parse().ok()
    }

    /// The file of a queue pair.
    pub fn queue(&self, pair: u16) -> Option<&File> {
        self.queues.get(usize::from(pair))
    }
}

impl Pairs for Tap {
    fn count(&self) -> u16 {
        self.pairs()
    }

    fn set_offload(&self, features: u64) -> io::Result<()> {
        let bits = [
            (VIRTIO_NET_F_GUEST_CSUM, tap::OFFLOAD_CSUM),
            (VIRTIO_NET_F_GUEST_TSO4, tap::OFFLOAD_TSO4),
            (VIRTIO_NET_F_GUEST_TSO6, tap::OFFLOAD_TSO6),
            (VIRTIO_NET_F_GUEST_ECN, tap::OFFLOAD_ECN),
        ];
        let offload =
            bits.iter().filter(|(bit, _)| features & 1 << bit != 0).fold(0, |all, (_, flag)| all | flag);
        if self.offload.swap(offload, Ordering::Relaxed) == offload {
            return Ok(());
        }
        // One queue's setting is the interface's.
        self.queues.first().map_or(Ok(()), |queue| tap::set_offload(queue, offload))
    }

    fn attach(&self, pairs: u16) -> io::Result<()> {
        if self.queues.len() == 1 {
            return Ok(());
        }
        for (queue, index) in self.queues.iter().zip(0..) {
            match tap::attach_queue(queue, index < pairs) {
                // It was so already.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
                other => other?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_tap_is_explained() {
        let error = Tap::open("no-such-tap", 2).unwrap_err().to_string();
        assert!(
            error.ends_with(
                "ip tuntap add no-such-tap mode tap vnet_hdr multi_queue && ip link set no-such-tap up"
            ),
            "{error}"
        );
        assert_eq!(
            Tap::open("lo", 1).unwrap_err().to_string(),
            "open tap lo: it is no tap, but another kind of interface"
        );
        assert!(Tap::inherit(&[9999]).unwrap_err().to_string().starts_with("use fd 9999 as a tap: "));
    }
}
