//! A tap of the host's own network, for as long as it is measured.

use std::io;
use std::net::Ipv4Addr;
use std::process::Command;

/// A tap with an address on the host's side, gone when dropped.
pub struct Tap(&'static str);

impl Tap {
    /// Makes the tap `name`, the host being `address` of a network of 256.
    pub fn make(name: &'static str, address: Ipv4Addr) -> io::Result<Tap> {
        // What an earlier run has left behind.
        let _ = ip(&format!("link del {name}"));
        ip(&format!("tuntap add {name} mode tap vnet_hdr"))?;
        let tap = Tap(name);
        ip(&format!("addr add {address}/24 dev {name}"))?;
        ip(&format!("link set {name} up"))?;
        Ok(tap)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let _ = ip(&format!("link del {}", self.0));
    }
}

fn ip(words: &str) -> io::Result<()> {
    let output = Command::new("ip").args(words.split(' ')).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    output.status.success().then_some(()).ok_or_else(|| io::Error::other(format!("ip {words}: {said}")))
}
