//! The files that are still needed once a machine, or a switch, runs.

use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::Report;
use crate::report::write;
use crate::sys::landlock::{READ, REMOVE, REMOVE_FOLDER, REPLACE, Ruleset, WRITE};
use crate::sys::privileges;

/// All of them but /proc, where each thread reads about itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Needed<'a> {
    /// To write.
    pub reports: &'a [Report],
    /// To remove in the end.
    pub removed: &'a [PathBuf],
    /// A control group, which is a folder to remove in the end.
    pub group: Option<&'a Path>,
    /// Whether there are taps, which are asked whether they are up.
    pub taps: bool,
}

/// Where the kernel tells of taps.
const TAPS: &str = "/sys/devices/virtual/net";

impl Needed<'_> {
    /// Rules of this `version` for them.
    pub fn rules(&self, version: u32) -> io::Result<Ruleset> {
        let rules = Ruleset::new(version)?;
        rules.allow(Path::new("/proc"), READ)?;
        for path in self.files() {
            match write::in_place(path) {
                // A pipe that has no name in any directory is not Landlock's to forbid.
                true => match rules.allow(path, WRITE) {
                    Err(error) if error.raw_os_error() == Some(libc::EBADFD) => {}
                    allowed => allowed?,
                },
                false => rules.allow(folder(path), REPLACE)?,
            }
        }
        for path in self.removed {
            rules.allow(folder(path), REMOVE)?;
        }
        if let Some(group) = self.group {
            rules.allow(folder(group), REMOVE_FOLDER)?;
        }
        if self.taps {
            match rules.allow(Path::new(TAPS), READ) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                allowed => allowed?,
            }
        }
        Ok(rules)
    }

    fn files(&self) -> impl Iterator<Item = &Path> {
        self.reports.iter().filter_map(|report| report.file.as_deref())
    }

    /// Whether one of them lies where another user than this rules, or where nobody may write by its mode: so
    /// the root of control groups is.
    pub fn are_of_others(&self) -> bool {
        let others = |place: &Path| {
            place.metadata().is_ok_and(|place| place.uid() != privileges::user() || place.mode() & 0o200 == 0)
        };
        let place = |path| if write::in_place(path) { path } else { folder(path) };
        self.files()
            .map(place)
            .chain(self.removed.iter().map(|path| folder(path)))
            .chain(self.group.map(folder))
            .any(others)
    }
}

/// Where a file is, or will be.
fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
