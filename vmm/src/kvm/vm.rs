//! The VM: what it asks of KVM, its memory slots and its interrupt routes.

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};

use kvm_bindings::{
    KVM_CAP_HALT_POLL, KVM_CAP_SPLIT_IRQCHIP, KVM_CAP_X86_DISABLE_EXITS, KvmIrqRouting, kvm_enable_cap,
    kvm_irq_routing_entry, kvm_userspace_memory_region,
};
use kvm_ioctls::{Cap, Kvm, VmFd};
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};
use vmm_sys_util::errno;
use vmm_sys_util::eventfd::EventFd;

use crate::boot::layout;
use crate::status::{Fatal, Status};
use crate::sys::memory_slot;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("open /dev/kvm: {}", open_words(.0))]
    Open(errno::Error),
    #[error("/dev/kvm speaks API version {0}, need 12")]
    Version(i32),
    #[error("this KVM lacks {0}, which the machine needs")]
    Lacks(&'static str),
    #[error("{vcpus} vCPUs asked, this KVM allows {max}")]
    Vcpus { vcpus: u8, max: usize },
    #[error("{deed}: {error}")]
    Ioctl { deed: String, error: errno::Error },
}

impl Fatal for Error {
    fn status(&self) -> Status {
        match self {
            Error::Open(error) if matches!(error.errno(), libc::EACCES | libc::EPERM) => Status::Permission,
            Error::Open(_) | Error::Version(_) | Error::Lacks(_) => Status::NoKvm,
            Error::Vcpus { .. } => Status::Usage,
            Error::Ioctl { error, .. }
                if matches!(error.errno(), libc::ENOMEM | libc::EMFILE | libc::ENFILE) =>
            {
                Status::Resource
            }
            Error::Ioctl { .. } => Status::NoKvm,
        }
    }
}

impl Error {
    /// Wraps the errno of an ioctl in the words of what it was to do.
    pub fn doing(deed: impl Into<String>) -> impl FnOnce(errno::Error) -> Error {
        move |error| Error::Ioctl { deed: deed.into(), error }
    }

    /// What would mend it, where that is known.
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Error::Open(error) => open_remedy(error),
            _ => None,
        }
    }
}

/// What is wrong, and what would mend it.
fn open_words(error: &errno::Error) -> String {
    let what = match error.errno() {
        libc::ENOENT => "there is none",
        libc::EACCES | libc::EPERM => "no permission",
        libc::ENODEV | libc::ENXIO => "no driver behind it",
        _ => return error.to_string(),
    };
    format!("{what}: {}", open_remedy(error).unwrap_or_default())
}

fn open_remedy(error: &errno::Error) -> Option<&'static str> {
    match error.errno() {
        libc::ENOENT => Some("load kvm_intel or kvm_amd, and have virtualization enabled in the firmware"),
        libc::EACCES | libc::EPERM => Some("run as root, or join its group: usermod -aG kvm $USER"),
        libc::ENODEV | libc::ENXIO => Some("load kvm_intel or kvm_amd"),
        _ => None,
    }
}

/// What KVM here can do, asked once.
#[derive(Clone, Copy, Debug)]
pub struct Abilities {
    pub max_vcpus: usize,
    pub tsc_deadline: bool,
    /// KVM_CAP_X86_DISABLE_EXITS: the bits that may be set.
    pub disable_exits: u64,
    pub halt_poll: bool,
}

/// An open VM. Cloned handles share it.
#[derive(Clone)]
pub struct Vm {
    fd: Arc<VmFd>,
    /// What the memory slots show, kept for as long as the VM.
    backing: Arc<Mutex<Vec<Backing>>>,
    routes: Arc<Mutex<Vec<kvm_irq_routing_entry>>>,
}

/// The owner of memory that a slot shows.
type Backing = Arc<dyn Any + Send + Sync>;

/// What every machine needs of KVM.
const NEEDED: [(Cap, &str); 6] = [
    (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
    (Cap::SplitIrqchip, "KVM_CAP_SPLIT_IRQCHIP"),
    (Cap::Irqfd, "KVM_CAP_IRQFD"),
    (Cap::Ioeventfd, "KVM_CAP_IOEVENTFD"),
    (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
    (Cap::MpState, "KVM_CAP_MP_STATE"),
];

/// Opens /dev/kvm and checks what every machine needs.
pub fn open() -> Result<(Kvm, Abilities), Error> {
    let kvm = Kvm::new().map_err(Error::Open)?;
    match kvm.get_api_version() {
        12 => {}
        other => return Err(Error::Version(other)),
    }
    suits(|cap| kvm.check_extension(cap))?;
    let abilities = Abilities {
        max_vcpus: kvm.get_max_vcpus(),
        tsc_deadline: kvm.check_extension(Cap::TscDeadlineTimer),
        disable_exits: kvm.check_extension_raw(u64::from(KVM_CAP_X86_DISABLE_EXITS)).max(0) as u64,
        halt_poll: kvm.check_extension_raw(u64::from(KVM_CAP_HALT_POLL)) > 0,
    };
    Ok((kvm, abilities))
}

/// Whether a KVM that has what `has` says will do.
fn suits(has: impl Fn(Cap) -> bool) -> Result<(), Error> {
    let lacking = NEEDED.into_iter().find(|(cap, _)| !has(*cap));
    lacking.map_or(Ok(()), |(_, name)| Err(Error::Lacks(name)))
}

impl Abilities {
    /// Whether a machine may have so many vCPUs.
    pub fn allow(self, vcpus: u8) -> Result<(), Error> {
        let max = self.max_vcpus;
        if usize::from(vcpus) > max { Err(Error::Vcpus { vcpus, max }) } else { Ok(()) }
    }
}

impl Vm {
    pub fn create(kvm: &Kvm) -> Result<Vm, Error> {
        let fd = loop {
            match kvm.create_vm() {
                // KVM waits for a thread of its own there, and gives up where a signal comes first.
                Err(error) if error.errno() == libc::EINTR => {}
                made => break made.map_err(Error::doing("create VM"))?,
            }
        };
        fd.set_identity_map_address(layout::KVM_IDENTITY_MAP)
            .map_err(Error::doing("set identity map address"))?;
        fd.set_tss_address(layout::KVM_TSS as usize).map_err(Error::doing("set TSS address"))?;
        Ok(Vm { fd: Arc::new(fd), backing: Arc::default(), routes: Arc::default() })
    }

    pub fn fd(&self) -> &VmFd {
        &self.fd
    }

    /// Local APICs in the kernel; the IOAPIC, with `pins` pins, here. Each pin less is some six exits
    /// less at boot, and MSI needs none.
    pub fn split_irqchip(&self, pins: u32) -> Result<(), Error> {
        let deed = format!("create split irqchip with {pins} IOAPIC pins");
        self.enable(KVM_CAP_SPLIT_IRQCHIP, u64::from(pins), deed)
    }

    /// HLT, MWAIT, PAUSE don't exit. Only before the first vCPU.
    pub fn disable_exits(&self, bits: u64) -> Result<(), Error> {
        self.enable(KVM_CAP_X86_DISABLE_EXITS, bits, format!("disable exits {bits:#x}"))
    }

    /// KVM polls at most this long for work before a halted vCPU sleeps.
    pub fn halt_poll(&self, ns: u32) -> Result<(), Error> {
        self.enable(KVM_CAP_HALT_POLL, u64::from(ns), format!("set halt poll to {ns} ns"))
    }

    fn enable(&self, cap: u32, argument: u64, deed: String) -> Result<(), Error> {
        let cap = kvm_enable_cap { cap, args: [argument, 0, 0, 0], ..Default::default() };
        self.fd.enable_cap(&cap).map_err(Error::doing(deed))
    }

    /// A slot for each region of `memory`.
    pub fn map(&self, memory: &GuestMemoryMmap) -> Result<(), Error> {
        for (slot, region) in memory.iter().enumerate() {
            let address = region.start_addr().raw_value();
            let host = memory.get_host_address(region.start_addr());
            let host = host.map_err(|_| Error::Lacks("a host address for guest memory"))?;
            let slot = kvm_userspace_memory_region {
                slot: slot as u32,
                flags: 0,
                guest_phys_addr: address,
                memory_size: region.len(),
                userspace_addr: host as u64,
            };
            let deed = format!("map {} MiB at {address:#x}", region.len() >> 20);
            self.set_slot(slot, Arc::new(memory.clone()), deed)?;
        }
        Ok(())
    }

    /// A slot over memory that `owner` keeps mapped.
    pub fn set_slot(
        &self,
        slot: kvm_userspace_memory_region,
        owner: Backing,
        deed: String,
    ) -> Result<(), Error> {
        self.backing.lock().unwrap_or_else(PoisonError::into_inner).push(owner);
        memory_slot::set(&self.fd, slot).map_err(Error::doing(deed))
    }

    /// Makes `gsi` an MSI of this message; `None` takes it away.
    pub fn route(&self, gsi: u32, message: Option<devices::msi::Message>) -> Result<(), Error> {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let old = routes.iter().position(|r| r.gsi == gsi);
        let new = message.map(|message| crate::sys::irq_route::msi(gsi, message));
        match (old, new) {
            (None, None) => return Ok(()),
            (Some(at), None) => drop(routes.swap_remove(at)),
            (Some(at), Some(new)) if crate::sys::irq_route::same(&routes[at], &new) => return Ok(()),
            (Some(at), Some(new)) => routes[at] = new,
            (None, Some(new)) => routes.push(new),
        }
        let table =
            KvmIrqRouting::from_entries(&routes).map_err(|_| Error::Lacks("room for interrupt routes"))?;
        self.fd.set_gsi_routing(&table).map_err(Error::doing(format!("route interrupt {gsi}")))
    }

    /// A write to `fd` is an edge on `gsi`.
    pub fn irqfd(&self, fd: &EventFd, gsi: u32) -> Result<(), Error> {
        self.fd.register_irqfd(fd, gsi).map_err(Error::doing(format!("attach irqfd to interrupt {gsi}")))
    }

    /// It is one no more.
    pub fn irqfd_off(&self, fd: &EventFd, gsi: u32) -> Result<(), Error> {
        self.fd.unregister_irqfd(fd, gsi).map_err(Error::doing(format!("detach irqfd from interrupt {gsi}")))
    }

    /// An edge on `gsi`, now.
    pub fn raise(&self, gsi: u32) -> Result<(), Error> {
        self.fd.set_irq_line(gsi, true).map_err(Error::doing(format!("raise interrupt {gsi}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kvm_that_lacks_anything_or_allows_too_little_is_refused() {
        for (lacking, name) in NEEDED {
            let error = suits(|cap| cap as u32 != lacking as u32).unwrap_err();
            assert_eq!(error.to_string(), format!("this KVM lacks {name}, which the machine needs"));
            assert_eq!(error.status(), Status::NoKvm);
        }
        assert!(suits(|_| true).is_ok());
        let abilities = Abilities { max_vcpus: 8, tsc_deadline: true, disable_exits: 0, halt_poll: true };
        let error = abilities.allow(9).unwrap_err();
        assert_eq!(error.to_string(), "9 vCPUs asked, this KVM allows 8");
        assert_eq!(error.status(), Status::Usage);
        assert!(abilities.allow(8).is_ok());
    }
}
