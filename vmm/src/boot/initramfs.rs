//! The initramfs that needs no image: this very binary as `/init`, the modules that it loads, and
//! a list of what it is to do there ([`crate::init::plan`]).
//!
//! Planned before guest memory exists, so that every error comes early; copied once, from the
//! page cache into guest memory, so that it costs the monitor no memory of its own.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use abi::workload::Spec;
use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use super::cpio::{Archive, Piece};
use super::modules::{self, Tree};
use crate::init::plan::{self, Plan};
use crate::status::{Fatal, Status};

/// An archive that is ready to be copied into guest memory.
#[derive(Debug)]
pub struct Initramfs {
    pieces: Vec<Piece>,
    size: u64,
    /// What was looked for and not found, though the guest may do without: one line each.
    pub notes: Vec<String>,
}

/// What the guest is to find.
#[derive(Clone, Copy, Debug)]
pub struct Contents<'a> {
    /// Modules that must be loaded; without one of them there is an error.
    pub modules: &'a [&'a str],
    /// Modules that are loaded where the kernel has them.
    pub useful: &'a [&'a str],
    /// `NAME[,key=value…]`, in order.
    pub workloads: &'a [String],
    /// The user's words for the kernel: some are meant for modules.
    pub cmdline: &'a str,
    /// Whether its CPUs are to poll before they halt.
    pub polls: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Modules(#[from] modules::Error),
    #[error(
        "no modules found beside the kernel, and {0} is needed: name its lib/modules/VERSION by --modules"
    )]
    NoModules(String),
    #[error("open {path}: {source}")]
    Open { path: PathBuf, source: io::Error },
    #[error("{0} is 4 GiB or longer, more than an initramfs holds")]
    TooLong(PathBuf),
    #[error("this program can't be process 1 of a guest: {0}")]
    Itself(&'static str),
    #[error("workload shell: no static busybox on this host; looked at {}", BUSYBOX.join(", "))]
    NoBusybox,
    #[error("{0}")]
    Workload(String),
    #[error("workload {0} doesn't run on Linux, but in the built-in guest kernel: leave --kernel out")]
    NotOnLinux(String),
}

impl Fatal for Error {
    fn status(&self) -> Status {
        match self {
            Error::Workload(_) | Error::NotOnLinux(_) => Status::Usage,
            _ => Status::Image,
        }
    }
}

/// Copying an [`Initramfs`] into guest memory failed.
#[derive(Debug, thiserror::Error)]
#[error("copy {name} into the initramfs: {source}")]
pub struct CopyError {
    name: String,
    source: GuestMemoryError,
}

/// Where Debian, Alpine and Fedora put a static busybox.
const BUSYBOX: [&str; 4] = ["/bin/busybox", "/usr/bin/busybox", "/bin/busybox.static", "/sbin/busybox"];

/// Plans the initramfs of a kernel whose modules are in `tree` (see [`modules::beside`]).
pub fn plan(tree: Option<&Path>, contents: Contents<'_>) -> Result<Initramfs, Error> {
    let mut archive = Archive::default();
    for directory in ["dev", "proc", "sys", "tmp", "bin", "vmm"] {
        archive.directory(directory);
    }
    // The kernel opens the console for process 1, and Rust's runtime wants /dev/null where that
    // failed: both before anything could mount a devtmpfs.
    archive.device("dev/console", 0o600, 5, 1);
    archive.device("dev/null", 0o666, 1, 3);

    let mut plan = Plan { polls: contents.polls, ..Plan::default() };
    let mut notes = Vec::new();
    for module in needed(tree, contents, &mut notes)? {
        let file = module.path.file_name().unwrap_or(module.path.as_os_str()).to_string_lossy();
        let inside = format!("vmm/{file}");
        add(&mut archive, &inside, 0o644, &module.path)?;
        let parameters = parameters(&module.name, contents.cmdline);
        plan.modules.push(plan::Module { path: format!("/{inside}"), parameters });
    }
    for workload in contents.workloads {
        let spec = Spec::parse(workload).map_err(|refusal| Error::Workload(refusal.to_string()))?;
        if !spec.workload.places.linux {
            return Err(Error::NotOnLinux(workload.clone()));
        }
        if spec.workload.name == "shell" && !plan.workloads.iter().any(|earlier| earlier == workload) {
            add(&mut archive, plan::BUSYBOX.trim_start_matches('/'), 0o755, busybox()?)?;
        }
        plan.workloads.push(workload.clone());
    }
    archive.bytes(plan::PATH.trim_start_matches('/'), 0o444, &plan.encode());

    let path = Path::new("/proc/self/exe");
    let file = File::open(path).map_err(|source| Error::Open { path: path.to_owned(), source })?;
    let len = loaded_len(&file)?;
    archive.file("init", 0o755, file, len);
    let (pieces, size) = archive.finish();
    Ok(Initramfs { pieces, size, notes })
}

impl Initramfs {
    /// Bytes in guest memory.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Copies the archive to `at`; files are read straight into guest memory.
    pub fn copy_to(self, memory: &GuestMemoryMmap, mut at: GuestAddress) -> Result<(), CopyError> {
        for piece in self.pieces {
            let size = piece.size();
            match piece {
                Piece::Bytes(bytes) => memory
                    .write_slice(&bytes, at)
                    .map_err(|source| CopyError { name: "headers".into(), source })?,
                // A file that has become shorter since it was planned is an error, never a hole.
                Piece::File { mut file, len, name } => memory
                    .read_exact_volatile_from(at, &mut file, len as usize)
                    .map_err(|source| CopyError { name, source })?,
            }
            at = GuestAddress(at.0.saturating_add(size));
        }
        Ok(())
    }
}

/// A module's parameters: what the command line says for it (`virtio_blk.poll_queues=1`), as modprobe(8)
/// would read it there.
fn parameters(module: &str, cmdline: &str) -> String {
    let own = |word: &str| {
        let (name, parameter) = word.split_once('.')?;
        (name.replace('-', "_") == module).then(|| parameter.to_owned())
    };
    let words = cmdline.split_whitespace().take_while(|word| *word != "--");
    words.filter_map(own).collect::<Vec<_>>().join(" ")
}

fn needed(
    tree: Option<&Path>,
    contents: Contents<'_>,
    notes: &mut Vec<String>,
) -> Result<Vec<modules::Module>, Error> {
    let Some(root) = tree else {
        if let Some(name) = contents.modules.first() {
            return Err(Error::NoModules((*name).to_owned()));
        }
        notes.push(format!("no modules found beside the kernel; not loaded: {}", contents.useful.join(", ")));
        return Ok(Vec::new());
    };
    let tree = Tree::open(root)?;
    let mut wanted = contents.modules.to_vec();
    for name in contents.useful {
        if tree.has(name) {
            wanted.push(name);
        } else {
            notes.push(format!("module {name}: not in {}, and not built in; not loaded", root.display()));
        }
    }
    Ok(tree.resolve(&wanted)?)
}

fn add(archive: &mut Archive, inside: &str, mode: u32, path: &Path) -> Result<(), Error> {
    let open = |source| Error::Open { path: path.to_owned(), source };
    let file = File::open(path).map_err(open)?;
    let len = file.metadata().map_err(open)?.len();
    let len = u32::try_from(len).map_err(|_| Error::TooLong(path.to_owned()))?;
    archive.file(inside, mode, file, len);
    Ok(())
}

/// The first busybox that runs without libraries.
fn busybox() -> Result<&'static Path, Error> {
    let fits = |path: &&str| File::open(path).is_ok_and(|file| loaded_len(&file).is_ok());
    BUSYBOX.iter().find(|path| fits(path)).map(Path::new).ok_or(Error::NoBusybox)
}

/// How much of a static ELF program the kernel looks at: up to the end of its last program header's
/// contents (ELF-64 Object File Format, program header). Symbols and debug information come
/// after that, and needn't be unpacked in the guest.
fn loaded_len(file: &File) -> Result<u32, Error> {
    let read = |bytes: &mut [u8], at| file.read_exact_at(bytes, at).map_err(|_| Error::Itself("cut short"));
    let mut header = [0; 64];
    read(&mut header, 0)?;
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return Err(Error::Itself("not a 64-bit ELF file"));
    }
    let number =
        |at: usize, len: usize| header[at..at + len].iter().rev().fold(0, |n, b| n << 8 | u64::from(*b));
    let (table, size, count) = (number(0x20, 8), number(0x36, 2), number(0x38, 2));
    if size != 56 {
        return Err(Error::Itself("program headers of an unknown size"));
    }
    let mut end = 0;
    for at in (0..count).map(|index| table.saturating_add(index * size)) {
        let mut program = [0; 56];
        read(&mut program, at)?;
        let number =
            |at: usize, len: usize| program[at..at + len].iter().rev().fold(0, |n, b| n << 8 | u64::from(*b));
        const PT_INTERP: u64 = 3;
        if number(0, 4) == PT_INTERP {
            return Err(Error::Itself("it needs a dynamic linker; build it for x86_64-unknown-linux-musl"));
        }
        end = end.max(number(8, 8).saturating_add(number(32, 8)));
    }
    u32::try_from(end).map_err(|_| Error::Itself("longer than 4 GiB"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Contents<'_> =
        Contents { modules: &[], useful: &["pvpanic_mmio"], workloads: &[], cmdline: "", polls: false };

    #[test]
    fn a_modules_parameters_are_on_the_kernels_command_line() {
        let cmdline = "quiet virtio-blk.poll_queues=1 virtio_net.napi_tx=0 virtio_blk.y -- virtio_blk.z";
        assert_eq!(parameters("virtio_blk", cmdline), "poll_queues=1 y");
        assert_eq!(parameters("virtio", cmdline), "");
    }

    #[test]
    fn the_archive_lands_in_guest_memory_whole() {
        let initramfs = plan(None, NOTHING).unwrap();
        let len = initramfs.size() as usize;
        assert_eq!(initramfs.notes.len(), 1);
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 64 << 20)]).unwrap();
        initramfs.copy_to(&memory, GuestAddress(0x1000)).unwrap();
        let mut bytes = vec![0; len];
        memory.read_slice(&mut bytes, GuestAddress(0x1000)).unwrap();
        assert!(bytes.starts_with(b"070701"));
        let itself = std::fs::read("/proc/self/exe").unwrap();
        let loaded = loaded_len(&File::open("/proc/self/exe").unwrap()).unwrap() as usize;
        let name = bytes.windows(6).position(|w| w == b"init\0\0").unwrap();
        assert!(bytes[name + 6..].starts_with(&itself[..loaded]));
        assert!(bytes.windows(11).any(|w| w == b"TRAILER!!!\0"));
    }

    #[test]
    fn no_room_is_an_error() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x10_0000)]).unwrap();
        assert!(plan(None, NOTHING).unwrap().copy_to(&memory, GuestAddress(0)).is_err());
    }

    #[test]
    fn devices_need_their_modules() {
        let contents = Contents { modules: &["virtio_blk"], ..NOTHING };
        assert!(matches!(plan(None, contents), Err(Error::NoModules(name)) if name == "virtio_blk"));
    }

    #[test]
    fn what_init_could_not_run_is_refused_before_the_boot() {
        for (text, words) in [
            ("exit=1\0module /x", "status=1"),
            ("nul", "did you mean null?"),
            ("root", "but in the built-in guest kernel"),
        ] {
            let workloads = [text.to_owned()];
            let refused = plan(None, Contents { workloads: &workloads, ..NOTHING }).unwrap_err();
            assert_eq!(refused.status(), Status::Usage);
            assert!(refused.to_string().contains(words), "{refused}");
        }
    }
}
