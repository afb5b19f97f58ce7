//! The interface on the host: opened and checked before the guest starts.

use std::fs::File;
use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU32, Ordering};

use virtio_bindings::virtio_net::*;

use super::HEADER;
use super::control::Pairs;
pub use super::trouble::TapError;
use super::trouble::{About, attribute, flags};
use crate::sys::tap::{self, MULTI_QUEUE, NO_PI, TAP, VNET_HDR};

/// A tap, one file for each queue pair.
#[derive(Debug)]
pub struct Tap {
    name: String,
    queues: Vec<File>,
    /// As last set.
    offload: AtomicU32,
}

impl Tap {
    /// Opens the tap called `name`, which must exist, with `pairs` queue pairs.
    pub fn open(name: &str, pairs: u16) -> Result<Tap, TapError> {
        let (owned, many) = (|| name.to_string(), pairs > 1);
        let Some(_) = attribute(name, "ifindex") else {
            return Err(TapError::Missing { name: owned(), many });
        };
        let Some(bits) = flags(name).filter(|bits| bits & i64::from(TAP) != 0) else {
            return Err(TapError::Type { name: owned() });
        };
        // A tap made by `ip` knows whether it is for several queues, and does not change its mind.
        if (bits & i64::from(MULTI_QUEUE) != 0) != many {
            return Err(TapError::Queues { name: owned(), about: About::of(name), many });
        }
        let wanted = TAP | NO_PI | VNET_HDR | if many { MULTI_QUEUE } else { 0 };
        let queue = |_| {
            let file = tap::device().map_err(TapError::Device)?;
            tap::take(&file, name, wanted).map_err(|source| TapError::of_open(name, many, source))?;
            Ok(file)
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
        let (mut name, mut queues): (String, Vec<File>) = (String::new(), Vec::new());
        for &fd in fds {
            let error = |source| TapError::Fd { fd, source };
            let file = tap::inherit(fd).map_err(error)?;
            let (interface, flags) = tap::interface(&file).map_err(error)?;
            if flags & (TAP | NO_PI | VNET_HDR) != TAP | NO_PI | VNET_HDR {
                return Err(TapError::Flags { fd, name: interface });
            }
            if !queues.is_empty() && name != interface {
                return Err(TapError::Strange { fd, name: interface, others: name });
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

    /// Any files that keep frames apart, in place of a tap's queues.
    #[cfg(any(test, feature = "fuzz"))]
    pub fn fake(queues: Vec<File>) -> Tap {
        Tap { name: String::new(), queues, offload: AtomicU32::new(0) }
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

    /// Whether the interface is up (IFF_UP, netdevice(7)); true where it can't be known.
    pub fn is_up(&self) -> bool {
        let flags = attribute(&self.name, "flags");
        let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim_start_matches("0x"), 16).ok());
        flags.is_none_or(|flags| flags & 1 != 0)
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
        // A fake's files are no queues of one interface.
        #[cfg(test)]
        if self.name.is_empty() {
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
    use crate::testing::made::Made;

    fn refused(name: &str, pairs: u16) -> String {
        Tap::open(name, pairs).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_tap_is_explained() {
        let error = refused("no-such-tap", 2);
        assert!(error.contains("ip tuntap add no-such-tap mode tap vnet_hdr multi_queue"), "{error}");
        assert!(error.ends_with("&& ip link set no-such-tap up"), "{error}");
        assert_eq!(refused("lo", 1), "open tap lo: it is no tap, but another kind of interface");
        assert!(Tap::inherit(&[9999]).unwrap_err().to_string().starts_with("use fd 9999 as a tap: "));
        let Some(tun) = Made::new("n", &["tun"]) else { return };
        assert!(refused(&tun.0, 1).contains("it is no tap"));
    }

    #[test]
    fn a_busy_tap_says_who_has_it_and_how_it_was_made() {
        let Some(tap) = Made::new("b", &["tap", "group", "5"]) else { return };
        let held = Tap::open(&tap.0, 1).unwrap();
        assert_eq!((held.pairs(), held.mtu()), (1, Some(1500)));
        let error = refused(&tap.0, 1);
        let words = format!("in use by process {}, ", std::process::id());
        assert!(error.contains(&words) && error.contains("no owner, group 5, flags tap persist"), "{error}");
        let error = refused(&tap.0, 2);
        assert!(error.contains("it was made for one queue, several queues were asked"), "{error}");
        let mend = format!("ip link del {0}; ip tuntap add {0} mode tap vnet_hdr multi_queue", tap.0);
        assert!(error.contains(&mend), "{error}");
    }

    #[test]
    fn queues_come_and_go_and_offloads_are_set_once() {
        let Some(made) = Made::new("m", &["tap", "multi_queue"]) else { return };
        assert!(refused(&made.0, 1).contains("it was made multi_queue, one queue was asked"));
        let tap = Tap::open(&made.0, 4).unwrap();
        for pairs in [1, 4, 2, 2, 1] {
            tap.attach(pairs).unwrap();
        }
        for features in [0, 1 << VIRTIO_NET_F_GUEST_CSUM, super::super::OFFLOADS] {
            tap.set_offload(features).unwrap();
        }
        tap.set_offload(1 << VIRTIO_NET_F_GUEST_TSO4).unwrap_err();
        tap.set_offload(super::super::OFFLOADS).unwrap();
    }
}
