//! What the kernel has for devices: taps, and its own back ends.

use std::io::{self, ErrorKind};

use super::model::{Finding, Verdict};
use super::root::Root;

const AREA: &str = "devices";

/// `CAP_NET_ADMIN` (linux/capability.h).
pub const NET_ADMIN: u32 = 12;

pub fn findings(root: &Root) -> Vec<Finding> {
    let mut findings = vec![
        device(
            root,
            "vhost-net",
            "dev/vhost-net",
            "modprobe vhost_net; without it --vhost is refused for --net",
        ),
        device(root, "vhost-vsock", "dev/vhost-vsock", "modprobe vhost_vsock"),
        device(root, "tun", "dev/net/tun", "modprobe tun; without it there is no --net tap=NAME"),
    ];
    if !capable(root, NET_ADMIN) {
        let found =
            Finding::good(AREA, "new taps", "this process lacks CAP_NET_ADMIN: it opens only its own");
        findings.push(found.mend(Verdict::Lacks, "sudo ip tuntap add NAME mode tap user $USER vnet_hdr"));
    }
    findings
}

fn device(root: &Root, name: &'static str, path: &str, absent: &str) -> Finding {
    let found = |text: String| Finding::good(AREA, name, text);
    match root.open(path) {
        Ok(()) => found(format!("/{path} opens")),
        Err(error) => {
            let remedy = match error.kind() {
                ErrorKind::NotFound => absent.to_owned(),
                ErrorKind::PermissionDenied => format!("sudo chmod a+rw /{path}, or run as root"),
                _ => module(&error, absent),
            };
            found(format!("/{path}: {error}")).mend(Verdict::Lacks, remedy)
        }
    }
}

/// A node of /dev without its driver (ENODEV, ENXIO) is as good as none.
fn module(error: &io::Error, absent: &str) -> String {
    match error.raw_os_error() {
        Some(libc::ENODEV | libc::ENXIO) => absent.to_owned(),
        _ => format!("see dmesg; {absent}"),
    }
}

/// Whether this process has a capability, by its number.
pub fn capable(root: &Root, number: u32) -> bool {
    let status = root.read("proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & 1 << number != 0
}

#[cfg(test)]
mod tests {
    use super::super::root::tests::Tree;
    use super::*;

    #[test]
    fn a_device_opens_or_says_what_loads_it() {
        let files = [("dev/net/tun", ""), ("proc/self/status", "Name:\tvmm\nCapEff:\t0000000000001000\n")];
        let tree = Tree::new("devices", &files);
        let findings = findings(&tree.0);
        let verdicts: Vec<Verdict> = findings.iter().map(|finding| finding.verdict).collect();
        assert_eq!(verdicts, [Verdict::Lacks, Verdict::Lacks, Verdict::Good]);
        assert!(findings[0].remedy.as_ref().unwrap().starts_with("modprobe vhost_net"));
        assert!(capable(&tree.0, NET_ADMIN) && !capable(&tree.0, 38));
    }

    #[test]
    fn without_the_capability_taps_are_made_beforehand() {
        let tree = Tree::new("taps", &[("proc/self/status", "CapEff:\t0\n")]);
        let last = findings(&tree.0).pop().unwrap();
        assert_eq!((last.name, last.verdict), ("new taps", Verdict::Lacks));
    }
}
