//! `--vsock`: sockets between the guest and programs of the host.

use std::str::FromStr;

use super::keys::{self, KeyError};

/// The guest's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vsock {
    /// The number by which the host's programs reach it, which no other machine of this host has.
    pub cid: u32,
}

impl FromStr for Vsock {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Vsock, KeyError> {
        let items = keys::items(text, &["cid"])?;
        let cid = items.iter().map(|item| item.parse(cid)).next_back();
        Ok(Vsock { cid: cid.ok_or(KeyError::Whole("names no guest; cid=N"))?? })
    }
}

/// vsock(7): 0 to 2 are hypervisor, loopback and host, the last is "any".
fn cid(text: &str) -> Result<u32, &'static str> {
    text.parse().ok().filter(|cid| (3..u32::MAX).contains(cid)).ok_or("not a number from 3 to 4294967294")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_a_guests() {
        assert_eq!("cid=3".parse(), Ok(Vsock { cid: 3 }));
        assert_eq!("cid=4294967294".parse(), Ok(Vsock { cid: u32::MAX - 1 }));
        for text in ["", "cid", "cid=", "cid=2", "cid=4294967295", "cid=x", "cid=3,cid=4", "port=3"] {
            assert!(text.parse::<Vsock>().is_err(), "{text}");
        }
    }
}
