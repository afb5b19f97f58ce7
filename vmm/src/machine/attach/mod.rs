//! Any virtio device is attached the same way, whatever it is and whoever serves it.
//!
//! - [`open`](Opened::open)     files and interfaces that the user named, before there is a VM
//! - [`attach`](Opened::attach) onto the PCI bus, or as a page of registers
//! - [`describe`]               what ACPI says of it

pub mod describe;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use devices::blk::Blk;
use devices::blk::image::{Image, ImageError};
use devices::bus::{Bus, Overlap};
use devices::console::Console;
use devices::console::port::ConsolePort;
use devices::net::tap::{Tap, TapError};
use devices::net::{self, Net};
use devices::pci::bus::{AttachError, PciBus};
use devices::rng::Rng;
use devices::vhost;
use devices::vhost_user;
use devices::vhost_user::frontend::OpenError;
use devices::vhost_user::session::Address;
use devices::virtio::device::Device;
use devices::virtio::front::{DeviceCounts, Front};
use devices::virtio::interrupt::Interrupt;
use devices::virtio::polling::BusyPoll;
use devices::virtio::rate::Rate;
use devices::virtio::transport::mmio::{self, VirtioMmio};
use devices::virtio::transport::pci::VirtioPci;
use devices::virtio::userspace::Tuning;
use devices::vsock::Vsock;
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::config::disk::Medium;
use crate::config::net::Wire;
use crate::config::{Config, Disk, Transport, Virtio};
use crate::kvm::doorbell::Doorbells;
use crate::kvm::msi::Vectors;
use crate::kvm::vm::{self, Vm};
use crate::run::whereabouts::Whereabouts;
use crate::sandbox::{Devices, Sandbox, Who};
use crate::status::{Fatal, Status, say};
use crate::sys::terminal::restore_at_once;
use crate::sys::{affinity, limits};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Tap(#[from] TapError),
    #[error(transparent)]
    Socket(#[from] OpenError),
    #[error("attach {name}: {source}")]
    Attach { name: String, source: io::Error },
    #[error("open /dev/vhost-net: {0}; it needs the module vhost_net: modprobe vhost_net")]
    Vhost(io::Error),
    #[error(transparent)]
    Vsock(#[from] vhost::vsock::OpenError),
    #[error("open /dev/urandom: {0}")]
    Random(io::Error),
    #[error("create an event fd: {0}")]
    Wire(io::Error),
    #[error(transparent)]
    Slot(#[from] AttachError),
    #[error("attach {0}: no more than {MOST_MMIO} devices with --transport=mmio")]
    Many(String),
    #[error(transparent)]
    Kvm(#[from] vm::Error),
    #[error(transparent)]
    Overlap(#[from] Overlap),
}

impl Fatal for Error {
    fn status(&self) -> Status {
        match self {
            Error::Image(error) if error.denied() => Status::Permission,
            Error::Tap(error) if error.denied() => Status::Permission,
            Error::Socket(error) if error.denied() => Status::Permission,
            Error::Vhost(error) if error.kind() == io::ErrorKind::PermissionDenied => Status::Permission,
            Error::Vsock(error) if error.denied() => Status::Permission,
            Error::Image(_) | Error::Tap(_) | Error::Socket(_) => Status::Device,
            Error::Vhost(_) | Error::Vsock(_) | Error::Random(_) => Status::Device,
            Error::Many(_) | Error::Slot(_) => Status::Usage,
            Error::Kvm(error) => error.status(),
            _ => Status::Resource,
        }
    }
}

/// virtio-mmio devices of one machine: one IOAPIC pin each.
const MOST_MMIO: usize = 32;

/// Devices whose files and interfaces are open.
pub struct Opened {
    devices: Vec<Box<dyn Device>>,
    tuning: Tuning,
    virtio: Virtio,
    workers: Workers,
    whereabouts: Arc<Whereabouts>,
    images: Vec<Arc<Image>>,
}

/// Workers that have started: name, and the host CPUs that each may use.
type Workers = Arc<Mutex<Vec<(String, Vec<usize>)>>>;

impl Opened {
    /// Opens what `config` names.
    pub fn open(config: &Config, sandbox: &Sandbox) -> Result<Opened, Error> {
        let mut devices: Vec<Box<dyn Device>> = Vec::new();
        let mut images = Vec::new();
        let (workers, whereabouts) = (Workers::default(), Whereabouts::of(config));
        let tuning = tuning(config, workers.clone(), sandbox);
        for (index, Disk { medium, queues, rate }) in config.disks.iter().enumerate() {
            let name = format!("blk.{index}");
            let tuning = Tuning { rate: *rate, ..tuning.clone() };
            devices.push(match medium {
                Medium::Image(image, engine) => {
                    if image.direct && config.memory.prefault {
                        // Guest memory is registered with io_uring once there are no capabilities.
                        limits::allow_locked_memory();
                    }
                    let image = Arc::new(Image::open(image)?);
                    images.push(image.clone());
                    let beside = whereabouts.follows(&name, *queues, 1);
                    let tuning = Tuning { beside, busy_poll: busy_poll(config), ..tuning };
                    Box::new(Blk::new(&name, image, *engine, *queues, tuning)?)
                }
                Medium::VhostUser(socket) => {
                    Box::new(vhost_user::blk::Disk::open(&name, Address::new(socket), *queues, &tuning)?)
                }
            });
        }
        for (index, card) in config.nets.iter().enumerate() {
            let name = format!("net.{index}");
            let tuning = Tuning { rate: card.rate, ..tuning.clone() };
            let options = |wire: &str| net::Options {
                mac: card.mac.unwrap_or_else(|| net::mac_for(wire)),
                offload: card.offload,
            };
            let tap = match &card.wire {
                Wire::Tap(name) => Tap::open(name, card.queues)?,
                Wire::Fds(fds) => Tap::inherit(fds)?,
                Wire::VhostUser(socket) => {
                    let options = options(&socket.to_string_lossy());
                    let address = Address::new(socket);
                    let card = vhost_user::net::card(&name, address, card.queues, &options, tuning.clone())?;
                    devices.push(Box::new(card));
                    continue;
                }
            };
            if !tap.is_up() {
                say(format_args!("tap {0} is down, no frame passes: ip link set {0} up", tap.name()));
            }
            let options = options(tap.name());
            let tuning = Tuning { busy_poll: busy_poll(config), ..tuning };
            let net = if card.by_kernel(config.virtio.vhost) {
                vhost::net::card(&name, tap, &options, tuning).map_err(Error::Vhost)?
            } else {
                let beside = whereabouts.follows(&name, card.queues, 2);
                let tuning = Tuning { beside, ..tuning };
                Net::userspace(&name, tap, &options, tuning)
            };
            devices.push(Box::new(net));
        }
        if config.rng {
            devices.push(Box::new(Rng::open("rng.0", tuning.clone()).map_err(Error::Random)?));
        }
        if let Some(vsock) = config.vsock {
            devices.push(Box::new(Vsock::open(vsock.cid, &tuning)?));
        }
        Opened { devices, tuning, virtio: config.virtio, workers, whereabouts, images }.counted()
    }

    /// Whether all find a place.
    fn counted(self) -> Result<Opened, Error> {
        match self.devices.get(MOST_MMIO) {
            Some(device) if self.virtio.transport == Transport::Mmio => {
                Err(Error::Many(device.name().into()))
            }
            _ => Ok(self),
        }
    }

    /// And a console at `port`; `size`: columns and rows, where it is a terminal.
    pub fn with_console(
        mut self,
        port: Arc<Mutex<ConsolePort>>,
        size: Option<(u16, u16)>,
    ) -> Result<Opened, Error> {
        self.devices.push(Box::new(Console::new(port, size, self.tuning.clone())));
        self.counted()
    }

    /// Wires to the IOAPIC that these devices need.
    pub fn wires(&self) -> u32 {
        if self.virtio.transport == Transport::Mmio { self.devices.len() as u32 } else { 0 }
    }

    /// Whether they want a PCI bus. Without devices there is none: a bus is found, sized and told of.
    pub fn on_pci(&self) -> bool {
        self.virtio.transport == Transport::Pci && !self.devices.is_empty()
    }

    /// Attaches them, to `pci` where there is one, else to `bus`.
    pub fn attach(
        self,
        vm: &Vm,
        memory: &GuestMemoryMmap,
        pci: Option<Arc<Mutex<PciBus>>>,
        bus: &mut Bus,
        numbers: Numbers,
    ) -> Result<Attached, Error> {
        let virtio = self.virtio;
        let doorbells = Arc::new(Doorbells { vm: vm.clone(), on: virtio.ioeventfd });
        let vectors = Vectors::new(vm.clone(), numbers.vector, virtio.irqfd);
        let memory = Arc::new(memory.clone());
        let (workers, whereabouts) = (self.workers, self.whereabouts);
        let mut attached = Attached { pci, mmio: Vec::new(), workers, whereabouts, images: self.images };
        for (device, index) in self.devices.into_iter().zip(0..) {
            let name = device.name().to_string();
            let failed = |source| Error::Attach { name: name.clone(), source };
            let front = Front::new(device, memory.clone(), virtio.event_idx).map_err(failed)?;
            match &attached.pci {
                Some(pci) => {
                    let function = VirtioPci::new(front, virtio.kicks, &vectors, doorbells.clone());
                    let function = function.map_err(failed)?;
                    lock(pci).attach(Box::new(function))?;
                }
                None => {
                    let pin = Pin::new(vm, numbers.wire + index, virtio.irqfd)?;
                    let base = describe::base(index);
                    let device = VirtioMmio::new(front, base, Arc::new(pin), doorbells.clone());
                    let device = Arc::new(Mutex::new(device));
                    bus.attach(base, mmio::SIZE, device.clone())?;
                    attached.mmio.push(device);
                }
            }
        }
        Ok(attached)
    }
}

fn lock<T: ?Sized>(device: &Mutex<T>) -> MutexGuard<'_, T> {
    device.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What of the machine's numbers is free for devices.
#[derive(Clone, Copy, Debug)]
pub struct Numbers {
    /// The first IOAPIC pin that is theirs.
    pub wire: u32,
    /// GSIs from here on are MSI-X vectors.
    pub vector: u32,
}

/// A wire to the IOAPIC: an irqfd, or an ioctl.
struct Pin {
    vm: Vm,
    gsi: u32,
    event: Option<EventFd>,
}

impl Pin {
    fn new(vm: &Vm, gsi: u32, irqfd: bool) -> Result<Pin, Error> {
        let event = if irqfd { Some(EventFd::new(EFD_NONBLOCK).map_err(Error::Wire)?) } else { None };
        if let Some(event) = &event {
            vm.irqfd(event, gsi)?;
        }
        Ok(Pin { vm: vm.clone(), gsi, event })
    }
}

impl Interrupt for Pin {
    fn signal(&self) {
        let raised = match &self.event {
            Some(event) => event.write(1),
            None => self.vm.raise(self.gsi).map_err(io::Error::other),
        };
        if let Err(error) = raised {
            say(format_args!("raise interrupt {}: {error}", self.gsi));
        }
    }
    fn event(&self) -> Option<&EventFd> {
        self.event.as_ref()
    }
}

/// The devices of a machine that runs.
pub struct Attached {
    pci: Option<Arc<Mutex<PciBus>>>,
    mmio: Vec<Arc<Mutex<VirtioMmio>>>,
    workers: Workers,
    whereabouts: Arc<Whereabouts>,
    images: Vec<Arc<Image>>,
}

impl Attached {
    /// Of its vCPUs, once they run.
    pub fn whereabouts(&self) -> Arc<Whereabouts> {
        self.whereabouts.clone()
    }

    /// The host CPUs that each worker was let on, in the order in which they started.
    pub fn workers(&self) -> Vec<(String, Vec<usize>)> {
        lock(&self.workers).clone()
    }

    /// Stops every device, lets go of the images, and says what each device has done. No vCPU may run any more.
    pub fn finish(&self) -> Vec<DeviceCounts> {
        let mut counts = Vec::new();
        if let Some(pci) = &self.pci {
            let mut pci = lock(pci);
            pci.quiesce();
            counts = pci.counts();
        }
        for device in &self.mmio {
            let mut device = lock(device);
            device.quiesce();
            counts.push(device.counts());
        }
        // The next machine need not wait for this one's report.
        self.images.iter().for_each(|image| image.release());
        counts
    }
}

/// How workers run. A worker is started by the vCPU that brings its device up, and must not inherit
/// where that one is pinned.
fn tuning(config: &Config, workers: Workers, sandbox: &Sandbox) -> Tuning {
    let (pins, everywhere) = (config.pin.workers.clone(), affinity::allowed());
    let (inside, keeper, devices) = (sandbox.clone(), sandbox.clone(), Devices::of(config));
    let entered = move |device: &str, thread: i32| {
        let worker = device.replace('.', "");
        let pinned = pins.iter().find(|(name, _)| *name == worker).map(|(_, cpu)| usize::from(*cpu));
        let cpus = pinned.map_or_else(|| everywhere.clone(), |cpu| vec![cpu]);
        if let Err(error) = affinity::allow(thread, &cpus) {
            say(format_args!("keep {worker} on host CPUs {cpus:?}: {error}"));
        }
        lock(&workers).push((worker, affinity::allowed_of(thread)));
        if thread == 0 {
            confine(&inside, Who::Worker(devices));
        }
    };
    Tuning {
        // Others than disks and cards only poll where somebody has said so.
        busy_poll: BusyPoll::For(config.virtio.busy_poll.asked()),
        resident: config.memory.prefault,
        rate: Rate::default(),
        entered: Arc::new(entered),
        keeps: Arc::new(move || confine(&keeper, Who::Keeper)),
        beside: Arc::new(|_| None),
    }
}

/// How long those who serve disks and cards poll. Where there is but one CPU, or a limit on what the machine uses of
/// them, it is the guest that would wait for it.
fn busy_poll(config: &Config) -> BusyPoll {
    match config.virtio.busy_poll {
        BusyPoll::Adaptive if config.cpu_limit.is_some() || affinity::allowed().len() < 2 => BusyPoll::OFF,
        asked => asked,
    }
}

/// The calling thread of a device serves under its filter, or not at all.
fn confine(sandbox: &Sandbox, who: Who) {
    if let Err(error) = sandbox.enter(who) {
        say(&error);
        restore_at_once();
        std::process::exit(error.status().code().into());
    }
}
