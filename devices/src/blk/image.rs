//! The file behind a disk: opened, measured and locked before the guest starts.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::request::{Limits, Request, SECTOR, SERIAL};
use super::shape::Shape;
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
    shape: Shape,
    read_only: bool,
    direct: Option<u32>,
    serial: [u8; SERIAL],
}

/// How long an image may stay another's that was killed: the kernel closes what its io_uring had registered
/// only some time after it, and not before the last request has ended, which is well so.
const LINGERS: Duration = Duration::from_secs(1);

/// Takes what another may have, with an error of `codes`, for no longer than that.
fn once_free<T>(codes: &[i32], take: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let began = Instant::now();
    loop {
        match take() {
            Err(error) if began.elapsed() < LINGERS && has(&error, codes) => {
                thread::sleep(Duration::from_millis(5));
            }
            taken => return taken,
        }
    }
}

fn has(error: &io::Error, codes: &[i32]) -> bool {
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// One writer, or many readers. A device has a lock by each of its names; that it has one writer whatever its
/// name is O_EXCL's affair.
fn lock(file: &File, options: &Options) -> Result<(), ImageError> {
    const TAKEN: &[i32] = &[libc::EAGAIN, libc::EACCES];
    once_free(TAKEN, || file::lock(file, !options.read_only)).map_err(|source| match has(&source, TAKEN) {
        true => ImageError::Locked(options.path.clone()),
        false => ImageError::Lock { path: options.path.clone(), source },
    })
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
        let measured = Shape::of(&file);
        let shape = measured.map_err(|source| ImageError::Measure { path: path(), source })?;
        if shape.read_only && !options.read_only {
            let source = io::Error::from_raw_os_error(libc::EROFS);
            return Err(ImageError::Open { path: path(), source, hint: ONLY_READ });
        }
        lock(&file, options)?;

        let direct = options.direct.then(|| file::direct_alignment(&file, shape.block));
        let shape = shape.at_least(direct.map_or(0, |direct| direct.offset));
        let Shape { size, block, .. } = shape;
        if size == 0 {
            return Err(ImageError::Empty(path()));
        }
        if !size.is_multiple_of(block.into()) {
            return Err(ImageError::Uneven { path: path(), size, block });
        }
        let (trouble, read_only) = (Trouble::default(), options.read_only);
        let direct = direct.map(|direct| direct.memory);
        Ok(Image { file, path: path(), trouble, shape, read_only, direct, serial })
    }

    /// Any file, with as many sectors as it is said to have.
    #[cfg(any(test, feature = "fuzz"))]
    pub fn over(file: File, sectors: u64) -> Image {
        let (path, trouble, serial) = (PathBuf::from("test"), Trouble::default(), [0; SERIAL]);
        let shape = Shape::of_file(sectors * SECTOR);
        Image { file, path, trouble, shape, read_only: false, direct: None, serial }
    }

    /// The same, as if it were opened with O_DIRECT and needed this alignment.
    #[cfg(any(test, feature = "fuzz"))]
    pub fn aligned(mut self, align: u32) -> Image {
        self.direct = Some(align);
        self
    }

    /// Its size in sectors of 512 bytes.
    pub fn sectors(&self) -> u64 {
        self.shape.size / SECTOR
    }

    /// As it was when it was opened.
    pub fn shape(&self) -> &Shape {
        &self.shape
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
        Limits { sectors: self.sectors(), read_only: self.read_only }
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

    /// What a read finds that begins, or ends, where there is nothing any more.
    pub fn ends(&self) -> io::Error {
        let why = match self.shape.device {
            true => "the device ends before that: it has shrunk, or is gone",
            false => "the file ends before that: it has shrunk",
        };
        io::Error::new(io::ErrorKind::UnexpectedEof, why)
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

const ONLY_READ: &str = "; it can only be read: add `ro`";

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
        // open(2): of a block device, one that is mounted, or that another has opened so, is refused.
        flags |= libc::O_EXCL;
    }
    let open = |write| {
        let mut open = OpenOptions::new();
        open.read(true).write(write).custom_flags(flags);
        once_free(&[libc::EBUSY], || open.open(path))
    };
    open(!options.read_only).map_err(|source| match source.raw_os_error() {
        Some(libc::EINVAL) if options.direct => {
            error(source, "; its filesystem knows no O_DIRECT: leave `direct` out")
        }
        Some(libc::EBUSY) => {
            error(source, "; it is mounted, part of another device, or another machine's disk")
        }
        Some(libc::EACCES | libc::EPERM | libc::EROFS) if !options.read_only && open(false).is_ok() => {
            error(source, ONLY_READ)
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
