//! The file behind a disk: opened, measured and locked before the guest starts.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::request::{Limits, Request, SECTOR, SERIAL};
use super::trouble::Trouble;
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
    #[error("open disk {}: {source}{hint}", path.display())]
    Open { path: PathBuf, source: io::Error, hint: &'static str },
    #[error("open disk {}: neither a file nor a block device", .0.display())]
    Type(PathBuf),
    #[error("lock disk {}: in use by another process; two machines may share it only with `ro`", .0.display())]
    Locked(PathBuf),
    #[error("lock disk {}: {source}", path.display())]
    Lock { path: PathBuf, source: io::Error },
    #[error("open an io_uring for disk {}: {source}; engine=sync does without", path.display())]
    Uring { path: PathBuf, source: io::Error },
    #[error("measure disk {}: {source}", path.display())]
    Measure { path: PathBuf, source: io::Error },
    #[error("use disk {}: {size} bytes are no multiple of its block, {block}", path.display())]
    Uneven { path: PathBuf, size: u64, block: u32 },
    #[error("use disk {}: it is empty", .0.display())]
    Empty(PathBuf),
    #[error("name disk {serial}: a serial number has at most 20 bytes")]
    Serial { serial: String },
}

impl ImageError {
    /// Whether this user lacks a permission.
    pub fn denied(&self) -> bool {
        matches!(self, ImageError::Open { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }
}

/// A disk image, locked for as long as it lives.
#[derive(Debug)]
pub struct Image {
    file: File,
    path: PathBuf,
    trouble: Trouble,
    sectors: u64,
    block: u32,
    read_only: bool,
    direct: Option<u32>,
    serial: [u8; SERIAL],
}

/// How long a lock may outlive a process that was killed: the kernel closes what its io_uring had registered
/// only some time after it, and not before the last request has ended, which is well so.
const LINGERS: Duration = Duration::from_secs(1);

fn lock(file: &File, options: &Options) -> Result<(), ImageError> {
    let path = || options.path.clone();
    let began = Instant::now();
    loop {
        match file::lock(file, !options.read_only) {
            Ok(()) => return Ok(()),
            Err(error) if !matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => {
                return Err(ImageError::Lock { path: path(), source: error });
            }
            Err(_) if began.elapsed() > LINGERS => return Err(ImageError::Locked(path())),
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        self.release();
    }
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

        let file = open(options)?;
        let measure = |source| ImageError::Measure { path: path(), source };
        let meta = file.metadata().map_err(measure)?;
        let (size, sector) = if meta.file_type().is_block_device() {
            file::block_size(&file).map_err(measure)?
        } else {
            (meta.len(), SECTOR as u32)
        };
        lock(&file, options)?;

        let direct = if options.direct { Some(file::direct_alignment(&file)) } else { None };
        let block = direct.map_or(sector, |direct| direct.offset.max(sector));
        if size == 0 {
            return Err(ImageError::Empty(path()));
        }
        if !size.is_multiple_of(block.into()) {
            return Err(ImageError::Uneven { path: path(), size, block });
        }
        let (sectors, read_only) = (size / SECTOR, options.read_only);
        let direct = direct.map(|direct| direct.memory);
        let trouble = Trouble::default();
        Ok(Image { file, path: path(), trouble, sectors, block, read_only, direct, serial })
    }

    /// Any file, with as many sectors as it is said to have.
    #[cfg(any(test, feature = "fuzz"))]
    pub fn over(file: File, sectors: u64) -> Image {
        let (path, trouble, serial) = (PathBuf::from("test"), Trouble::default(), [0; SERIAL]);
        Image { file, path, trouble, sectors, block: 512, read_only: false, direct: None, serial }
    }

    /// The same, as if it were opened with O_DIRECT and needed this alignment.
    #[cfg(any(test, feature = "fuzz"))]
    pub fn aligned(mut self, align: u32) -> Image {
        self.direct = Some(align);
        self
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

    /// Another may have it: at once, and not when the last io_uring that knows the file is gone. Nothing may be
    /// under way.
    pub fn release(&self) {
        // What was never locked needs no unlocking, and there is nobody to tell.
        let _ = file::unlock(&self.file);
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The host has failed to do what `request` asks.
    pub fn failed(&self, request: &Request, error: &io::Error) {
        self.trouble.tell(&self.path.display().to_string(), request, error);
    }
}

impl AsFd for Image {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn open(options: &Options) -> Result<File, ImageError> {
    let path = &options.path;
    let error = |source, hint| ImageError::Open { path: path.clone(), source, hint };
    // Looked at before it is opened: that of a FIFO would wait for somebody to write.
    let kind = fs::metadata(path).map_err(|source| error(source, ""))?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        return Err(ImageError::Type(path.clone()));
    }
    let mut flags = libc::O_CLOEXEC;
    if options.direct {
        flags |= libc::O_DIRECT;
    }
    if kind.is_block_device() && !options.read_only {
        // open(2): of a block device, one that is mounted is refused.
        flags |= libc::O_EXCL;
    }
    let open = |write| OpenOptions::new().read(true).write(write).custom_flags(flags).open(path);
    open(!options.read_only).map_err(|source| match source.raw_os_error() {
        Some(libc::EINVAL) if options.direct => {
            error(source, "; its filesystem knows no O_DIRECT: leave `direct` out")
        }
        Some(libc::EBUSY) => error(source, "; it is mounted, or part of another device"),
        Some(libc::EACCES | libc::EPERM | libc::EROFS) if !options.read_only && open(false).is_ok() => {
            error(source, "; it can only be read: add `ro`")
        }
        _ => error(source, ""),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::machine::Scratch;

    fn options(path: &Path) -> Options {
        Options { path: path.into(), ..Options::default() }
    }

    #[test]
    fn what_is_no_disk_is_named() {
        let file = Scratch::new("image");
        let error = |options: &Options| Image::open(options).unwrap_err().to_string();
        assert!(error(&options(&file)).contains("No such file"), "{}", error(&options(&file)));
        assert!(error(&options(file.parent().unwrap())).contains("neither a file nor a block device"));
        assert!(error(&options(Path::new("/dev/full"))).contains("neither a file nor a block device"));
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
