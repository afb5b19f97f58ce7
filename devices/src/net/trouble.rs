//! Why a tap can't be used: who owns it, with which flags, and the `ip` line that mends it.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::RawFd;

use crate::sys::tap;

/// Why a tap can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    #[error("open /dev/net/tun: {0}{hint}", hint = device_hint(.0))]
    Device(io::Error),
    #[error("open tap {name}: no such interface; create it: {}", make(.name, *.many))]
    Missing { name: String, many: bool },
    #[error("open tap {name}: it is no tap, but another kind of interface")]
    Type { name: String },
    #[error("open tap {name}: in use by {by} ({about}); end that, or take another: {}", make("NAME", *.many))]
    Busy { name: String, about: About, by: String, many: bool },
    #[error("open tap {name}: it was made {}, {} asked ({about}); make it again: {}", one_or(!*.many), wanted(*.many), remake(.name, *.many))]
    Queues { name: String, about: About, many: bool },
    #[error("open tap {name}: {source} ({about}); make it yours: {}", remake(.name, *.many))]
    Denied { name: String, about: About, many: bool, source: io::Error },
    #[error("open tap {name}: {source} ({about})")]
    Open { name: String, about: About, source: io::Error },
    #[error("use fd {fd} as a tap: {source}")]
    Fd { fd: RawFd, source: io::Error },
    #[error("use fd {fd} as a tap: {name} was opened without IFF_VNET_HDR or with packet information")]
    Flags { fd: RawFd, name: String },
    #[error("use fd {fd} as a tap: it is a queue of {name}, the others are of {others}")]
    Strange { fd: RawFd, name: String, others: String },
    #[error("set up tap {name}: {source}")]
    SetUp { name: String, source: io::Error },
}

impl TapError {
    /// Whether this user lacks a permission.
    pub fn denied(&self) -> bool {
        match self {
            TapError::Denied { .. } => true,
            TapError::Device(source) => source.kind() == io::ErrorKind::PermissionDenied,
            _ => false,
        }
    }

    /// TUNSETIFF has failed.
    pub fn of_open(name: &str, many: bool, source: io::Error) -> TapError {
        let (name, about) = (name.to_string(), About::of(name));
        match source.raw_os_error() {
            Some(libc::EBUSY) => {
                let by = holder(&name).unwrap_or_else(|| "another process".into());
                TapError::Busy { name, about, by, many }
            }
            Some(libc::EPERM | libc::EACCES) => TapError::Denied { name, about, many, source },
            _ => TapError::Open { name, about, source },
        }
    }
}

fn device_hint(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => "; it needs the module tun: modprobe tun",
        Some(libc::EACCES | libc::EPERM) => "; let this user: chmod 666 /dev/net/tun",
        _ => "",
    }
}

fn one_or(many: bool) -> &'static str {
    if many { "multi_queue" } else { "for one queue" }
}

fn wanted(many: bool) -> &'static str {
    if many { "several queues were" } else { "one queue was" }
}

fn make(name: &str, many: bool) -> String {
    let user = match tap::user() {
        0 => String::new(),
        uid => format!(" user {uid}"),
    };
    let multi = if many { " multi_queue" } else { "" };
    format!("ip tuntap add {name} mode tap vnet_hdr{multi}{user} && ip link set {name} up")
}

fn remake(name: &str, many: bool) -> String {
    format!("ip link del {name}; {}", make(name, many))
}

/// An attribute of an interface in sysfs.
pub fn attribute(name: &str, file: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/sys/class/net/{name}/{file}")).ok()?;
    Some(text.trim().to_string())
}

/// Flags of a tun or tap; `None` for any other interface.
pub fn flags(name: &str) -> Option<i64> {
    i64::from_str_radix(attribute(name, "tun_flags")?.trim_start_matches("0x"), 16).ok()
}

/// Whose an interface is, and what it was made for.
#[derive(Debug)]
pub struct About {
    owner: Option<String>,
    group: Option<String>,
    flags: i64,
}

impl About {
    pub fn of(name: &str) -> About {
        let set = |file| attribute(name, file).filter(|id| id != "-1");
        About { owner: set("owner"), group: set("group"), flags: flags(name).unwrap_or(0) }
    }
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.owner {
            Some(uid) => write!(f, "owner uid {uid}")?,
            None => write!(f, "no owner")?,
        }
        if let Some(gid) = &self.group {
            write!(f, ", group {gid}")?;
        }
        write!(f, ", flags")?;
        let words = [
            (0x1, "tun"),
            (0x2, "tap"),
            (0x100, "multi_queue"),
            (0x800, "persist"),
            (0x1000, "no_pi"),
            (0x4000, "vnet_hdr"),
        ];
        words.iter().filter(|(bit, _)| self.flags & bit != 0).try_for_each(|(_, word)| write!(f, " {word}"))
    }
}

/// The process that has the interface open (proc(5): `iff:` in /proc/pid/fdinfo), as far as we may see.
fn holder(name: &str) -> Option<String> {
    let wanted = format!("iff:\t{name}");
    let numbered = |entry: fs::DirEntry| entry.file_name().to_str()?.parse::<u32>().ok();
    fs::read_dir("/proc").ok()?.flatten().filter_map(numbered).find_map(|pid| {
        let mut fds = fs::read_dir(format!("/proc/{pid}/fdinfo")).ok()?.flatten();
        let holds = |entry: fs::DirEntry| {
            fs::read_to_string(entry.path()).is_ok_and(|info| info.lines().any(|line| line == wanted))
        };
        fds.any(holds).then(|| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            format!("process {pid}, {}", name.trim())
        })
    })
}
