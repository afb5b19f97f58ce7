//! Everything that goes into guest memory before the first instruction: kernel, initrd, command line,
//! boot parameters. Opened and checked before a VM exists, copied once.

use std::fs::File;
use std::path::{Path, PathBuf};

use abi::boot_info::Root;
use vm_memory::{GuestAddress, GuestMemoryMmap};

use super::cmdline::{self, Cmdline};
use super::image::Image;
use super::initramfs::{self, Initramfs};
use super::state::Entry;
use super::{builtin, linux, load, modules, pvh};
use crate::config::input::{self, InputError};
use crate::config::{Config, Idle, Transport};
use crate::status::{Fatal, Status};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Load(#[from] load::Error),
    #[error(transparent)]
    Modules(#[from] modules::Error),
    #[error(transparent)]
    Initramfs(#[from] initramfs::Error),
    #[error(transparent)]
    Copy(#[from] initramfs::CopyError),
    #[error("initrd {0}: {1}")]
    Initrd(PathBuf, std::io::Error),
    #[error(transparent)]
    Open(#[from] InputError),
    #[error(transparent)]
    Builtin(#[from] builtin::Error),
    #[error("command line of {len} bytes; this kernel takes at most {max}")]
    CmdlineTooLong { len: usize, max: usize },
    #[error("write boot data to guest memory: {0}")]
    Memory(#[from] vm_memory::GuestMemoryError),
}

impl Fatal for Error {
    fn status(&self) -> Status {
        match self {
            Error::CmdlineTooLong { .. } => Status::Usage,
            Error::Builtin(_) => Status::Usage,
            Error::Initramfs(error) => error.status(),
            _ => Status::Image,
        }
    }
}

/// What a machine runs.
pub enum Payload {
    /// The built-in kernel, and its root.
    Builtin(Option<(PathBuf, File)>),
    File(Box<Files>),
}

/// A kernel file and what goes with it, opened.
pub struct Files {
    path: PathBuf,
    kernel: (File, Image),
    initrd: Option<Initrd>,
    /// What was looked for and not found, though the guest may do without.
    notes: Vec<String>,
}

enum Initrd {
    File(PathBuf, File),
    Built(Initramfs),
}

/// What the machine tells the payload.
pub struct Context<'a> {
    pub config: &'a Config,
    pub rsdp: u64,
    pub serial: bool,
    /// Whether there is PCI, its configuration space where the memory map says.
    pub pci: bool,
}

/// A guest that can be entered.
pub struct Loaded {
    pub entry: Entry,
    pub cmdline: Cmdline,
    /// The built-in kernel's, in memory.
    pub root: Root,
}

/// Modules that make a machine's end visible, where the kernel has them.
const USEFUL: [&str; 1] = ["pvpanic-mmio"];

/// Opens what `config` names.
pub fn open(config: &Config) -> Result<Payload, Error> {
    let Some(path) = config.boot.kernel.as_deref() else {
        let root = config.boot.initrd.as_ref();
        let root = root.map(|path| Ok::<_, Error>((path.clone(), input::open("initrd", path)?)));
        return Ok(Payload::Builtin(root.transpose()?));
    };
    let kernel = load::open(path)?;
    let mut notes = Vec::new();
    let initrd = match &config.boot.initrd {
        Some(path) => Some(Initrd::File(path.clone(), input::open("initrd", path)?)),
        None if is_linux(&kernel.1) => {
            let version = match &kernel.1 {
                Image::BzImage(bz) => bz.version.as_deref(),
                Image::Elf(_) => None,
            };
            let tree = match &config.boot.modules {
                Some(tree) => Some(tree.clone()),
                None => modules::beside(path, version),
            };
            let useful: Vec<&str> = USEFUL.into_iter().chain(drivers(config)).collect();
            let contents = initramfs::Contents {
                modules: &[],
                useful: &useful,
                workloads: &config.boot.workloads,
                cmdline: &config.boot.cmdline,
                polls: config.idle == Idle::GuestPoll,
            };
            let mut built = initramfs::plan(tree.as_deref(), contents)?;
            notes.append(&mut built.notes);
            Some(Initrd::Built(built))
        }
        None => None,
    };
    Ok(Payload::File(Box::new(Files { path: path.into(), kernel, initrd, notes })))
}

/// Drivers of the devices that `config` names, as modules; what they need comes by itself.
fn drivers(config: &Config) -> Vec<&'static str> {
    let transport = match config.virtio.transport {
        Transport::Pci => "virtio_pci",
        Transport::Mmio => "virtio_mmio",
    };
    let drivers = [
        (transport, config.has_virtio()),
        ("virtio_console", config.console.is_virtio()),
        ("virtio_blk", !config.disks.is_empty()),
        ("virtio_net", !config.nets.is_empty()),
        ("virtio_rng", config.rng),
        ("vmw_vsock_virtio_transport", config.vsock.is_some()),
        // Its disk's file system, and what that asks for by what it does, which no list of needs has.
        ("crc32c_generic", config.boot.runs_tools()),
        ("ext4", config.boot.runs_tools()),
    ];
    drivers.into_iter().filter(|(_, needed)| *needed).map(|(driver, _)| driver).collect()
}

fn is_linux(image: &Image) -> bool {
    match image {
        Image::BzImage(_) => true,
        Image::Elf(elf) => elf.linux,
    }
}

impl Payload {
    /// What was looked for and not found, though the guest may do without.
    pub fn notes(&self) -> &[String] {
        match self {
            Payload::Builtin(_) => &[],
            Payload::File(files) => &files.notes,
        }
    }

    /// Copies everything into guest memory.
    pub fn load(self, memory: &GuestMemoryMmap, with: &Context) -> Result<Loaded, Error> {
        match self {
            Payload::Builtin(mut root) => {
                let failed = |path: &Path, error| Error::Initrd(path.into(), error);
                let len = root.as_ref().map_or(Ok(0), |(path, file)| {
                    file.metadata().map(|metadata| metadata.len()).map_err(|error| failed(path, error))
                })?;
                let (rip, root_at) = builtin::load(memory, with.config.memory.size, len)?;
                if let Some((path, file)) = &mut root {
                    load::file(memory, root_at.start, file, len).map_err(|error| failed(path, error))?;
                }
                let cmdline = Cmdline::with_workloads(&with.config.boot);
                let entry = Entry::Builtin { rip, vcpu: 0, xapic: false };
                Ok(Loaded { entry, cmdline, root: root_at })
            }
            Payload::File(files) => files.load(memory, with),
        }
    }
}

impl Files {
    /// Copies everything into guest memory.
    fn load(self, memory: &GuestMemoryMmap, with: &Context) -> Result<Loaded, Error> {
        let config = with.config;
        let linux = is_linux(&self.kernel.1);
        let memory_size = config.memory.size;
        let kernel = load::kernel(memory, memory_size, &self.path, self.kernel, config.boot.protocol)?;

        let initrd = match self.initrd {
            None => None,
            Some(Initrd::File(path, mut file)) => {
                let failed = |e| Error::Initrd(path.clone(), e);
                let bytes = file.metadata().map_err(failed)?.len();
                let at = load::initrd_address(&kernel, bytes)?;
                load::file(memory, at, &mut file, bytes).map_err(failed)?;
                Some((at, bytes))
            }
            Some(Initrd::Built(built)) => {
                let bytes = built.size();
                let at = load::initrd_address(&kernel, bytes)?;
                built.copy_to(memory, GuestAddress(at))?;
                Some((at, bytes))
            }
        };

        let mut cmdline = Cmdline::new(&config.boot.cmdline);
        if linux {
            cmdline::for_linux(&mut cmdline, with.serial, config.console.is_virtio());
            if config.idle == Idle::GuestPoll {
                cmdline.add("cpuidle_haltpoll.force=1");
            }
        }
        let line = cmdline.line();
        if line.len() > kernel.cmdline_max {
            return Err(Error::CmdlineTooLong { len: line.len(), max: kernel.cmdline_max });
        }
        load::cmdline(memory, &line)?;

        let (rsdp, ecam) = (with.rsdp, with.pci);
        match kernel.entry {
            Entry::Pvh { .. } => {
                pvh::write_start_info(memory, &pvh::StartInfo { initrd, memory_size, ecam, rsdp })?
            }
            _ => linux::write_zero_page(
                memory,
                &linux::Parameters {
                    header: kernel.header,
                    cmdline_len: line.len(),
                    initrd,
                    memory_size,
                    ecam,
                    rsdp,
                },
            )?,
        }
        Ok(Loaded { entry: kernel.entry, cmdline, root: Root::default() })
    }
}
