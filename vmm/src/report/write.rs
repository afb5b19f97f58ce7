//! Reports to where they were asked for.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;

use crate::config::{Format, Report as Request};
use crate::status::{Fatal, Status};

use super::model::Report;
use super::{json, text};

/// A report that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("write the report to {}: {error}", path.display())]
    File { path: PathBuf, error: io::Error },
    #[error("write the report to stderr: {0}")]
    Stderr(io::Error),
}

impl Fatal for WriteError {
    fn status(&self) -> Status {
        Status::Device
    }
}

/// Before the machine runs: can these files be written? A report that is lost is worth an error
/// while nothing has been done yet. Costs nothing where all go to stderr.
pub fn check(requests: &[Request]) -> Result<(), WriteError> {
    for path in requests.iter().filter_map(|request| request.file.as_deref()) {
        let probe = |target: &Path| match in_place(target) {
            true => fs::OpenOptions::new().write(true).open(target).map(drop),
            false => {
                let beside = beside(target)?;
                fs::OpenOptions::new().write(true).create_new(true).open(&beside)?;
                fs::remove_file(&beside)
            }
        };
        probe(path).map_err(|error| WriteError::File { path: path.to_owned(), error })?;
    }
    Ok(())
}

/// Writes all of them, and says which was the first that could not be.
/// `verbose`: with every row in the text.
pub fn all(report: &Report, requests: &[Request], verbose: bool) -> Result<(), WriteError> {
    each(requests, || text::render(report, verbose), || json::render(report))
}

/// The same, of what is rendered so.
pub fn each(
    requests: &[Request],
    text: impl Fn() -> String,
    json: impl Fn() -> String,
) -> Result<(), WriteError> {
    let mut first_error = Ok(());
    for request in requests {
        let rendered = match request.format {
            Format::Text => text(),
            Format::Json => json(),
        };
        let written = match &request.file {
            None => io::stderr().lock().write_all(rendered.as_bytes()).map_err(WriteError::Stderr),
            Some(path) => to_file(path, rendered.as_bytes())
                .map_err(|error| WriteError::File { path: path.clone(), error }),
        };
        first_error = first_error.and(written);
    }
    first_error
}

/// The file is there whole, or as it was before.
pub fn to_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if in_place(path) {
        return fs::OpenOptions::new().write(true).open(path)?.write_all(bytes);
    }
    let beside = beside(path)?;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).open(&beside)?;
    let written = file.write_all(bytes).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // The error that matters is the first one.
        let _ = fs::remove_file(&beside);
    }
    written
}

/// A pipe, a terminal, a link such as /dev/stdout is written to, not replaced.
pub fn in_place(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| !metadata.is_file())
}

/// A name of our own in the same directory, for only within one can a file be replaced at once.
fn beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}", process::id()));
    Ok(path.with_file_name(hidden))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("vmm-report-{name}-{}", process::id()));
        fs::create_dir_all(&directory).unwrap();
        directory
    }

    fn request(file: &Path) -> [Request; 1] {
        [Request { format: Format::Json, file: Some(file.to_owned()) }]
    }

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let directory = scratch("whole");
        let file = directory.join("report.json");
        fs::write(&file, "old, and longer than the new one").unwrap();
        check(&request(&file)).unwrap();
        assert!(fs::read_to_string(&file).unwrap().starts_with("old"));
        to_file(&file, b"new").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn what_cannot_be_written_is_said_before_and_after() {
        let directory = scratch("errors");
        for path in [directory.join("no/such/report"), directory.clone(), PathBuf::from("/")] {
            let error = check(&request(&path)).unwrap_err();
            assert!(error.to_string().starts_with("write the report to /"), "{error}");
            assert_eq!(error.status().code(), 66);
            assert!(to_file(&path, b"x").is_err());
        }
        fs::remove_dir_all(directory).unwrap();
        check(&request(Path::new("/dev/full"))).unwrap();
        let error = to_file(Path::new("/dev/full"), b"x").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    }
}
