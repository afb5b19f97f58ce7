//! Files that a user names: kernel, initrd, config file.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::status::{Fatal, Status};

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error("{what} {}: {}", path.display(), words(error))]
    Open { what: &'static str, path: PathBuf, error: io::Error },
    #[error("{what} {}: is {kind}; a regular file is needed", path.display())]
    NotAFile { what: &'static str, path: PathBuf, kind: &'static str },
    #[error("{what} {}: is empty", path.display())]
    Empty { what: &'static str, path: PathBuf },
}

impl Fatal for InputError {
    fn status(&self) -> Status {
        Status::Image
    }
}

/// The error without its number.
fn words(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "no such file".into(),
        ErrorKind::PermissionDenied => "no permission to read it".into(),
        _ => error.to_string(),
    }
}

/// Opens `path` for reading; it is a regular file and not empty. `what` names its part in errors.
/// Never waits: a FIFO without a writer is refused, not opened.
pub fn open(what: &'static str, path: &Path) -> Result<File, InputError> {
    let fail = |error| InputError::Open { what, path: path.to_owned(), error };
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(fail)?;
    let metadata = file.metadata().map_err(fail)?;
    let kind = metadata.file_type();
    if !kind.is_file() {
        let kind = match () {
            () if kind.is_dir() => "a directory",
            () if kind.is_fifo() => "a FIFO",
            () if kind.is_char_device() || kind.is_block_device() => "a device",
            () => "no file",
        };
        return Err(InputError::NotAFile { what, path: path.to_owned(), kind });
    }
    if metadata.len() == 0 {
        return Err(InputError::Empty { what, path: path.to_owned() });
    }
    Ok(file)
}

/// What is wrong with a text as TOML, in one line.
pub fn toml_trouble(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    format!("line {}: {}", 1 + before.matches('\n').count(), error.message().replace('\n', ", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_with_something_in_them() {
        assert!(open("kernel", Path::new("/proc/self/exe")).is_ok());
        for (path, words) in [
            ("/", "kernel /: is a directory; a regular file is needed"),
            ("/dev/null", "kernel /dev/null: is a device; a regular file is needed"),
            ("/proc/self/environ/x", "kernel /proc/self/environ/x: Not a directory"),
            ("/nowhere", "kernel /nowhere: no such file"),
        ] {
            let error = open("kernel", Path::new(path)).unwrap_err().to_string();
            assert!(error.starts_with(words), "{error}");
        }
    }
}
