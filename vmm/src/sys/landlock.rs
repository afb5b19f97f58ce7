//! Files that a thread may still reach (landlock(7)).

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::checked;

/// Rights to files (linux/landlock.h).
pub const WRITE: u64 = 1 << 1;
pub const READ: u64 = 1 << 2 | 1 << 3;
/// To make a file, and to replace or remove it.
pub const REPLACE: u64 = WRITE | 1 << 5 | 1 << 8;
pub const REMOVE: u64 = 1 << 5;
pub const REMOVE_FOLDER: u64 = 1 << 4;

/// All rights to files that the versions 1 to 5 know.
const FILES: [u64; 5] = [(1 << 13) - 1, (1 << 14) - 1, (1 << 15) - 1, (1 << 15) - 1, (1 << 16) - 1];
/// To bind and to connect TCP sockets, from version 4 on.
const TCP: u64 = 0b11;
/// Abstract sockets and signals of processes outside, from version 6 on.
const OUTSIDE: u64 = 0b11;

const CREATE_RULESET_VERSION: u32 = 1;
const RULE_PATH_BENEATH: u32 = 1;

/// `struct landlock_ruleset_attr`.
#[repr(C)]
struct Handled {
    files: u64,
    network: u64,
    scoped: u64,
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct Beneath {
    allowed: u64,
    parent: RawFd,
}

/// What is allowed, before any thread is held to it.
#[derive(Debug)]
pub struct Ruleset {
    fd: File,
    version: u32,
}

/// The version that this kernel speaks; `None`: it has no Landlock, or it is turned off.
pub fn version() -> Option<u32> {
    // SAFETY: asks for a number.
    let version = unsafe {
        let nothing = std::ptr::null::<Handled>();
        libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0_usize, CREATE_RULESET_VERSION)
    };
    u32::try_from(version).ok().filter(|version| *version > 0)
}

impl Ruleset {
    /// Nothing is allowed yet of all that `version` can forbid.
    pub fn new(version: u32) -> io::Result<Ruleset> {
        let known = |since: u32, bits| if version >= since { bits } else { 0 };
        let files = FILES[(version as usize).clamp(1, FILES.len()) - 1];
        let handled = Handled { files, network: known(4, TCP), scoped: known(6, OUTSIDE) };
        // A shorter structure for those that know less.
        let size = size_of::<u64>() * (1 + usize::from(version >= 4) + usize::from(version >= 6));
        // SAFETY: the structure is live and at least as long as said.
        let fd = checked(unsafe {
            libc::syscall(libc::SYS_landlock_create_ruleset, &raw const handled, size, 0_u32)
        })?;
        // SAFETY: a new descriptor that nobody else owns.
        Ok(Ruleset { fd: unsafe { File::from_raw_fd(fd as RawFd) }, version })
    }

    /// The version whose rights it knows.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Allows `rights` to `path`, and to all beneath.
    pub fn allow(&self, path: &Path, rights: u64) -> io::Result<()> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        // Not open(3): musl's sets close-on-exec a second time.
        // SAFETY: the text is live; the result is checked.
        let parent = checked(unsafe {
            let flags = libc::O_PATH | libc::O_CLOEXEC;
            libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags)
        })? as RawFd;
        // SAFETY: a new descriptor that nobody else owns.
        let parent = unsafe { OwnedFd::from_raw_fd(parent) };
        let rule = Beneath { allowed: rights, parent: parent.as_raw_fd() };
        // SAFETY: the structure is live and of the kind that is named.
        checked(unsafe {
            let ruleset = self.fd.as_raw_fd();
            libc::syscall(libc::SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &raw const rule, 0_u32)
        })
        .map(drop)
    }

    /// Holds the calling thread, and those that it will start, to it; it has no new privileges already.
    pub fn restrict(&self) -> io::Result<()> {
        // SAFETY: numbers only.
        checked(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, self.fd.as_raw_fd(), 0_u32) })
            .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::privileges;

    #[test]
    fn a_thread_reaches_what_it_is_allowed_and_nothing_else() {
        let Some(version) = version() else {
            eprintln!("skipped: this kernel has no Landlock");
            return;
        };
        let here = std::env::temp_dir().join(format!("vmm-landlock-{}", std::process::id()));
        let (own, other) = (here.join("own"), here.join("other"));
        std::fs::create_dir_all(&own).unwrap();
        std::fs::create_dir_all(&other).unwrap();
        std::fs::write(other.join("file"), "x").unwrap();
        let inside = || -> io::Result<()> {
            let rules = Ruleset::new(version)?;
            rules.allow(Path::new("/proc"), READ)?;
            rules.allow(&own, REPLACE)?;
            privileges::no_new()?;
            rules.restrict()?;
            let denied = |tried: io::Result<()>| {
                assert_eq!(tried.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
            };
            denied(std::fs::read(other.join("file")).map(drop));
            denied(std::fs::write(other.join("file"), "y"));
            denied(std::fs::read("/etc/passwd").map(drop));
            denied(File::open("/dev/null").map(drop));
            std::fs::read("/proc/self/stat")?;
            File::options().write(true).create_new(true).open(own.join(".a"))?;
            std::fs::rename(own.join(".a"), own.join("a"))?;
            // To write it is not to read it.
            denied(std::fs::read(own.join("a")).map(drop));
            Ok(())
        };
        std::thread::scope(|scope| scope.spawn(inside).join()).unwrap().unwrap();
        assert_eq!(std::fs::read(own.join("a")).unwrap(), b"");
        std::fs::remove_dir_all(here).unwrap();
    }
}
