//! The disk of an experiment: a file in the folder for temporary ones, with all of its blocks there.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::config::memory::Size;
use crate::status::{Failure, Status};

/// Gone when this is.
pub struct Scratch(PathBuf);

impl Scratch {
    /// `size` as in `64M`.
    pub fn new(size: &str) -> Result<Scratch, Failure> {
        let path = path("img");
        let fail = |why: &dyn std::fmt::Display| {
            Failure::new(Status::Device, &format!("write {}: {why}", path.display()))
        };
        let size: Size = size.parse().map_err(|error| fail(&error))?;
        // What was there before is not this one's to remove.
        let file = File::options().write(true).create_new(true).open(&path);
        let file = file.map_err(|error| fail(&error))?;
        let scratch = Scratch(path.clone());
        fill(file, size.0).map_err(|error| fail(&error))?;
        Ok(scratch)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Someone may have taken it away already.
        let _ = fs::remove_file(&self.0);
    }
}

fn path(ending: &str) -> PathBuf {
    std::env::temp_dir().join(format!("vmm-repro-{}.{ending}", std::process::id()))
}

/// Blocks of zeroes might be holes for some file systems.
fn fill(mut file: File, size: u64) -> io::Result<()> {
    let block = [0x5a; 1 << 16];
    let mut left = size;
    while left > 0 {
        let part = left.min(block.len() as u64);
        file.write_all(&block[..part as usize])?;
        left -= part;
    }
    file.sync_all()
}

/// Why files there are not read past the page cache, if so.
pub fn lacks_direct_io() -> Option<String> {
    let path = path("direct");
    let opened =
        File::options().write(true).create_new(true).custom_flags(libc::O_DIRECT).open(&path).map(drop);
    let _ = fs::remove_file(&path);
    let error = opened.err()?;
    Some(format!(
        "needs O_DIRECT in {}: {error}; TMPDIR names another folder",
        std::env::temp_dir().display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_is_there_and_goes() {
        let scratch = Scratch::new("4M").unwrap();
        let path = scratch.path().to_owned();
        assert_eq!(fs::read(&path).unwrap(), vec![0x5a; 4 << 20]);
        let error = Scratch::new("4M").err().map(|failure| failure.to_string()).unwrap_or_default();
        assert!(error.contains("vmm-repro-"), "{error}");
        drop(scratch);
        assert!(!path.exists());
    }
}
