//! A control group of the machine's own, which limits its CPU time (Documentation/admin-guide/cgroup-v2.rst):
//! vCPUs, device workers and all else of this process. It is beside the group that the process comes from, or
//! in it.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::status::{Fatal, Status};

/// The kernel hands out quotas by this period.
const PERIOD_US: u64 = 100_000;
/// Names of such groups begin so; the process's number follows.
const NAME: &str = "vmm-";

/// Why there is no such group.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "limit the CPU: no unified hierarchy of control groups is mounted: mount -t cgroup2 none DIRECTORY"
    )]
    NoHierarchy,
    #[error(
        "limit the CPU: {} has no cpu controller: a hierarchy of version 1 has it, or the group above does not \
         pass it on", .0.display()
    )]
    NoController(PathBuf),
    #[error(
        "limit the CPU: {deed} {}: {source}; a user may where the group is delegated: \
         systemd-run --user --scope -p Delegate=yes vmm …", path.display()
    )]
    Refused { deed: &'static str, path: PathBuf, source: io::Error },
}

impl Error {
    fn is_forbidden(&self) -> bool {
        matches!(self, Error::Refused { source, .. } if source.kind() == ErrorKind::PermissionDenied)
    }
}

impl Fatal for Error {
    fn status(&self) -> Status {
        if self.is_forbidden() { Status::Permission } else { Status::Resource }
    }
}

/// How often, and how long, the machine had to wait for its limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttled {
    /// Periods in which it wanted to run.
    pub periods: u64,
    /// Those in which it had used up its part.
    pub times: u64,
    /// All its CPUs together.
    pub us: u64,
}

/// The group; dropped, this process is where it came from, and the group is gone.
#[derive(Debug)]
pub struct CpuGroup {
    folder: PathBuf,
    /// `cgroup.procs` of where it came from, open while it may be written.
    home: File,
    stat: File,
}

impl CpuGroup {
    /// Makes one for `percent` of a CPU, and moves this process into it.
    pub fn enter(percent: u32) -> Result<CpuGroup, Error> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let (root, own) = mounted(&mounts).zip(own(&groups)).ok_or(Error::NoHierarchy)?;
        CpuGroup::at(root, own, percent)
    }

    /// Below `root`, where its hierarchy is mounted: beside the group `own`, or in it where that is all that
    /// this user was given, as by systemd's `Delegate=` to a service.
    fn at(root: &Path, own: &Path, percent: u32) -> Result<CpuGroup, Error> {
        let parent = own.parent().unwrap_or(own);
        pass_on(root, parent);
        let (parent, own) = (joined(root, parent), joined(root, own));
        match CpuGroup::below(parent, &own, percent) {
            Err(error) if error.is_forbidden() => {
                let inside = CpuGroup::below(own.clone(), &own, percent);
                // Where neither may be: the place where most users' machines get theirs.
                inside.map_err(|inner| if inner.is_forbidden() { error } else { inner })
            }
            beside => beside,
        }
    }

    /// In `parent`, coming from `own`.
    fn below(parent: PathBuf, own: &Path, percent: u32) -> Result<CpuGroup, Error> {
        let refused = |deed, path: &Path| {
            let path = path.to_owned();
            move |source| Error::Refused { deed, path, source }
        };
        let passes_on = parent.join("cgroup.subtree_control");
        if !lists(&passes_on, "cpu") {
            if !lists(&parent.join("cgroup.controllers"), "cpu") {
                return Err(Error::NoController(parent));
            }
            fs::write(&passes_on, "+cpu").map_err(refused("pass the cpu controller on by", &passes_on))?;
        }
        sweep(&parent);
        let home = own.join("cgroup.procs");
        let home = File::options().write(true).open(&home).map_err(refused("open", &home))?;
        let folder = parent.join(format!("{NAME}{}", std::process::id()));
        fs::create_dir(&folder).map_err(refused("make", &folder))?;
        let entered = || {
            // Beside processes there may be no group of another kind (cgroup-v2.rst, "Threads").
            if parent == own {
                let kind = folder.join("cgroup.type");
                fs::write(&kind, "threaded").map_err(refused("share processes by", &kind))?;
            }
            let quota = u64::from(percent) * PERIOD_US / 100;
            let max = folder.join("cpu.max");
            fs::write(&max, format!("{quota} {PERIOD_US}")).map_err(refused("write", &max))?;
            let stat = folder.join("cpu.stat");
            let stat = File::open(&stat).map_err(refused("open", &stat))?;
            // 0: who writes it.
            fs::write(folder.join("cgroup.procs"), "0").map_err(refused("enter", &folder))?;
            Ok(stat)
        };
        match entered() {
            Ok(stat) => Ok(CpuGroup { folder, home, stat }),
            Err(error) => {
                let _ = fs::remove_dir(&folder);
                Err(error)
            }
        }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// So far; `None` where it can't be read.
    pub fn throttled(&self) -> Option<Throttled> {
        let mut text = [0; 4096];
        let length = self.stat.read_at(&mut text, 0).ok()?;
        throttled(std::str::from_utf8(text.get(..length)?).ok()?)
    }
}

impl Drop for CpuGroup {
    fn drop(&mut self) {
        // Where it can't be left or removed, it is empty in a moment, and the next one's to remove.
        let _ = self.home.write_all(b"0");
        let _ = fs::remove_dir(&self.folder);
    }
}

/// Where the unified hierarchy is.
pub fn mounted(mounts: &str) -> Option<&Path> {
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let place = words.next()?;
        (words.next()? == "cgroup2").then_some(Path::new(place))
    })
}

/// This process's group there, from its root.
pub fn own(groups: &str) -> Option<&Path> {
    groups.lines().find_map(|line| line.strip_prefix("0::/")).map(Path::new)
}

/// Without the empty name at its end that a root has.
fn joined(root: &Path, group: &Path) -> PathBuf {
    root.join(group).components().collect()
}

/// Whether a file is a list with `word` in it.
fn lists(file: &Path, word: &str) -> bool {
    fs::read_to_string(file).is_ok_and(|text| text.split_whitespace().any(|known| known == word))
}

/// Has the groups from `root` down to `group` pass the cpu controller on, as far as they let this user.
fn pass_on(root: &Path, group: &Path) {
    let mut path = root.to_owned();
    for name in std::iter::once(Path::new("")).chain(group.iter().map(Path::new)) {
        path.push(name);
        let file = path.join("cgroup.subtree_control");
        if !lists(&file, "cpu") {
            let _ = fs::write(file, "+cpu");
        }
    }
}

/// Removes the groups of machines that were killed.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(NAME)?.parse::<u32>().ok());
        let gone =
            |number: u32| number == std::process::id() || !Path::new(&format!("/proc/{number}")).exists();
        if number.is_some_and(gone) {
            // One that still has a process is not removed.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

fn throttled(stat: &str) -> Option<Throttled> {
    let value = |name: &str| {
        let line = stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok())
    };
    let (periods, times) = (value("nr_periods")?, value("nr_throttled")?);
    Some(Throttled { periods, times, us: value("throttled_usec")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_this_process_is() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(mounted(mounts), Some(Path::new("/sys/fs/cgroup/unified")));
        assert_eq!(mounted("cgroup2 /a tmpfs rw 0 0\n"), None);
        assert_eq!(own("1:cpu:/x\n0::/user.slice/a.scope\n"), Some(Path::new("user.slice/a.scope")));
        assert_eq!((own("0::/\n"), own("1:cpu:/\n")), (Some(Path::new("")), None));
    }

    #[test]
    fn what_it_had_to_wait() {
        let stat = "usage_usec 9\nnr_periods 20\nnr_throttled 12\nthrottled_usec 345\nnr_bursts 0\n";
        assert_eq!(throttled(stat), Some(Throttled { periods: 20, times: 12, us: 345 }));
        assert_eq!(throttled("usage_usec 9\n"), None);
    }

    /// Files where the kernel has its own.
    #[test]
    fn a_group_without_the_controller_is_named() {
        let root = std::env::temp_dir().join(format!("vmm-cpu-group-{}", std::process::id()));
        let parent = root.join("slice");
        fs::create_dir_all(parent.join("scope")).unwrap();
        fs::write(parent.join("cgroup.controllers"), "memory pids\n").unwrap();
        fs::write(parent.join("cgroup.subtree_control"), "memory cpuset\n").unwrap();
        fs::create_dir_all(parent.join("vmm-4294967295")).unwrap();
        let error = CpuGroup::at(&root, Path::new("slice/scope"), 50).unwrap_err();
        sweep(&parent);
        let swept = !parent.join("vmm-4294967295").exists();
        fs::remove_dir_all(&root).unwrap();
        assert!(error.to_string().contains("slice has no cpu controller"), "{error}");
        assert!(swept);
    }
}
