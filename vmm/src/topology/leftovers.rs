//! What a topology makes bears its process's number. One that was killed leaves it behind: folders with
//! sockets, taps and bridges that stay without anybody who holds them. The next one removes it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;

use crate::sys::bridge;

const FOLDER: &str = "vmm-topology-";
const BRIDGE: &str = "vmb";
const TAP: &str = "vmt";

/// The folder for the sockets of this process.
pub fn folder() -> PathBuf {
    std::env::temp_dir().join(format!("{FOLDER}{}", process::id()))
}

/// Its bridge.
pub fn bridge() -> String {
    format!("{BRIDGE}{}", process::id())
}

/// Its tap of this number.
pub fn tap(at: usize) -> String {
    format!("{TAP}{}x{at}", process::id())
}

/// Whose something is, by its name, which begins so.
fn owner(name: &str, kind: &str) -> Option<u32> {
    let number = name.strip_prefix(kind)?;
    let number = if kind == TAP { number.split_once('x')?.0 } else { number };
    if number.starts_with('0') { None } else { number.parse().ok() }
}

/// Names in `folder` of this kind whose owners are no more.
fn orphans(folder: &Path, kind: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let gone = |pid| pid != process::id() && !Path::new("/proc").join(format!("{pid}")).exists();
    names.filter(|name| owner(name, kind).is_some_and(gone)).collect()
}

/// Removes the folders, as far as they may be removed.
pub fn remove_folders() {
    let temporary = std::env::temp_dir();
    for name in orphans(&temporary, FOLDER) {
        let _ = fs::remove_dir_all(temporary.join(name));
    }
}

/// Removes the interfaces, as far as they may be removed. Of another system of processes on the same network
/// nothing is: its taps are held, and its bridges have members.
pub fn remove_interfaces() {
    let network = Path::new("/sys/class/net");
    for tap in orphans(network, TAP) {
        if held(&network.join(&tap)) {
            continue;
        }
        let many = bridge::remove_tap(&tap, false).is_err();
        if many {
            let _ = bridge::remove_tap(&tap, true);
        }
    }
    for name in orphans(network, BRIDGE) {
        let empty = fs::read_dir(network.join(&name).join("brif")).is_ok_and(|mut all| all.next().is_none());
        if empty {
            let _ = bridge::remove_bridge(&name);
        }
    }
}

/// A tap that somebody holds has a carrier.
fn held(tap: &Path) -> bool {
    fs::read_to_string(tap.join("carrier")).is_ok_and(|carrier| carrier.trim() == "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_whose_they_are() {
        assert_eq!([owner("vmb12", BRIDGE), owner("vmt12x3", TAP)], [Some(12), Some(12)]);
        assert_eq!(owner("vmm-topology-7", FOLDER), Some(7));
        for (name, kind) in
            [("vmb", BRIDGE), ("vmb012", BRIDGE), ("vmbr0", BRIDGE), ("vmt12", TAP), ("vmtx", TAP)]
        {
            assert_eq!(owner(name, kind), None, "{name}");
        }
        assert_eq!(owner(&bridge(), BRIDGE), Some(process::id()));
        assert_eq!(owner(&tap(0), TAP), Some(process::id()));
    }

    #[test]
    fn what_was_left_by_one_that_is_no_more_goes() {
        let left = std::env::temp_dir().join(format!("{FOLDER}{}", u32::MAX));
        fs::create_dir_all(left.join("socket")).unwrap();
        fs::create_dir_all(folder()).unwrap();
        remove_folders();
        assert!(!left.exists() && folder().exists());
        fs::remove_dir(folder()).unwrap();
    }
}
