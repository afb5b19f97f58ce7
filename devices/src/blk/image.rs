//! The file behind a disk: opened, measured and locked before the guest starts.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::request::{Limits, SECTOR, SERIAL};
use crate::sys::file;

/// How to open an image.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub path: PathBuf,
    pub read_only: bool,
    /// O_DIRECT: past the host's page cache.
    pub direct: bool,
    /// What the guest sees as serial number, 20 bytes at most.
    pub serial: String,
}

/// Why an image can't be used. Each names the file.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("open disk {}: {source}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("open disk {}: neither a file nor a block device", .0.display())]
    Type(PathBuf),
    #[error("lock disk {}: in use by another process; two machines may share it only with `ro`", .0.display())]
    Locked(PathBuf),
    #[error("measure disk {}: {source}", path.display())]
    Measure { path: PathBuf, source: io::Error },
    #[error("use disk {}: {size} bytes are no multiple of its block, {block}", path.display())]
    Uneven { path: PathBuf, size: u64, block: u32 },
    #[error("use disk {}: it is empty", .0.display())]
    Empty(PathBuf),
    #[error("name disk {serial}: a serial number has at most 20 bytes")]
    Serial { serial: String },
}

/// A disk image, locked for as long as it lives.
#[derive(Debug)]
pub struct Image {
    file: File,
    sectors: u64,
    block: u32,
    read_only: bool,
    direct: Option<u32>,
    serial: [u8; SERIAL],
}

impl Image {
    /// Opens and locks.
    pub fn open(options: &Options) -> Result<Image, ImageError> {
        let path = || options.path.clone();
        let mut serial = [0; SERIAL];
        let Some(room) = serial.get_mut(..options.serial.len()) else {
            return Err(ImageError::Serial { serial: options.serial.clone() });
        };
        room.copy_from_slice(options.serial.as_bytes());

        let file =
            open(&options.path, options).map_err(|source| ImageError::Open { path: path(), source })?;
        let measure = |source| ImageError::Measure { path: path(), source };
        let meta = file.metadata().map_err(measure)?;
        let kind = meta.file_type();
        let (size, sector) = if kind.is_block_device() {
            file::block_size(&file).map_err(measure)?
        } else if kind.is_file() {
            (meta.len(), SECTOR as u32)
        } else {
            return Err(ImageError::Type(path()));
        };
        file::lock(&file, !options.read_only).map_err(|_| ImageError::Locked(path()))?;

        let direct = if options.direct { Some(file::direct_alignment(&file)) } else { None };
        let block = direct.map_or(sector, |direct| direct.offset.max(sector));
        if size == 0 {
            return Err(ImageError::Empty(path()));
        }
        if !size.is_multiple_of(block.into()) {
            return Err(ImageError::Uneven { path: path(), size, block });
        }
        let (sectors, read_only) = (size / SECTOR, options.read_only);
        Ok(Image { file, sectors, block, read_only, direct: direct.map(|direct| direct.memory), serial })
    }

    /// Its size in sectors of 512 bytes.
    pub fn sectors(&self) -> u64 {
        self.sectors
    }

    /// Bytes of its logical block: 512, or what the host needs.
    pub fn block(&self) -> u32 {
        self.block
    }

    pub fn read_only(&self) -> bool {
        self.read_only
    }

    /// With O_DIRECT: what addresses and lengths in memory must be multiples of.
    pub fn direct(&self) -> Option<u32> {
        self.direct
    }

    /// Padded with zeroes.
    pub fn serial(&self) -> &[u8; SERIAL] {
        &self.serial
    }

    /// For [`super::request`].
    pub fn limits(&self) -> Limits {
        Limits { sectors: self.sectors, read_only: self.read_only }
    }

    pub fn file(&self) -> &File {
        &self.file
    }
}

impl AsFd for Image {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn open(path: &Path, options: &Options) -> io::Result<File> {
    let flags = libc::O_CLOEXEC | if options.direct { libc::O_DIRECT } else { 0 };
    let file = OpenOptions::new().read(true).write(!options.read_only).custom_flags(flags).open(path);
    match file {
        Err(error) if options.direct && error.raw_os_error() == Some(libc::EINVAL) => {
            Err(io::Error::other("its filesystem knows no O_DIRECT; leave `direct` out"))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::machine::Scratch;
    use std::fs;

    fn options(path: &Path) -> Options {
        Options { path: path.into(), ..Options::default() }
    }

    #[test]
    fn what_is_no_disk_is_named() {
        let file = Scratch::new("image");
        let error = |options: &Options| Image::open(options).unwrap_err().to_string();
        assert!(error(&options(&file)).contains("No such file"), "{}", error(&options(&file)));
        assert!(error(&options(file.parent().unwrap())).contains("directory"));
        fs::write(&*file, [0; 700]).unwrap();
        assert!(error(&options(&file)).contains("700 bytes are no multiple of its block, 512"));
        fs::write(&*file, []).unwrap();
        assert!(error(&options(&file)).contains("empty"));
        fs::write(&*file, [0; 1024]).unwrap();
        let serial = "a serial number of 28 bytes!".into();
        assert!(error(&Options { serial, ..options(&file) }).contains("at most 20"));
    }

    #[test]
    fn one_writer_or_many_readers() {
        let path = Scratch::new("lock");
        fs::write(&*path, [0; 1024]).unwrap();
        let writer = Image::open(&options(&path)).unwrap();
        assert!(matches!(Image::open(&options(&path)), Err(ImageError::Locked(_))));
        drop(writer);
        let reader = Options { read_only: true, ..options(&path) };
        let _readers = [Image::open(&reader).unwrap(), Image::open(&reader).unwrap()];
        assert!(matches!(Image::open(&options(&path)), Err(ImageError::Locked(_))));
    }
}
