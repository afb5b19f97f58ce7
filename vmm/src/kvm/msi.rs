//! MSI-X vectors of devices: a GSI each, routed to a message, raised by an irqfd or by an ioctl.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use devices::msi::Message;
use devices::pci::msix::{MsiSink, MsiVector};
use kvm_bindings::kvm_msi;
use vmm_sys_util::errno;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::vm::{self, Vm};

/// The machine's vectors, numbered from a first GSI on.
pub struct Vectors {
    vm: Vm,
    next: AtomicU32,
    irqfd: bool,
}

impl Vectors {
    /// GSIs from `first` on are vectors; without `irqfd` each interrupt is a KVM_SIGNAL_MSI.
    pub fn new(vm: Vm, first: u32, irqfd: bool) -> Vectors {
        Vectors { vm, next: AtomicU32::new(first), irqfd }
    }
}

impl MsiSink for Vectors {
    fn vector(&self) -> io::Result<Box<dyn MsiVector>> {
        let event = if self.irqfd { Some(EventFd::new(EFD_NONBLOCK)?) } else { None };
        let gsi = self.next.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(Vector { vm: self.vm.clone(), gsi, event, attached: Mutex::new(false) }))
    }
}

struct Vector {
    vm: Vm,
    gsi: u32,
    event: Option<EventFd>,
    attached: Mutex<bool>,
}

fn system(error: errno::Error) -> io::Error {
    io::Error::from_raw_os_error(error.errno())
}

impl Vector {
    fn connect(&self, event: &EventFd, message: Option<Message>) -> Result<(), vm::Error> {
        let mut attached = self.attached.lock().unwrap_or_else(PoisonError::into_inner);
        if message.is_some() {
            self.vm.route(self.gsi, message)?;
        }
        // An irqfd that is attached while its fd is readable delivers at once.
        match (message.is_some(), *attached) {
            (true, false) => self.vm.irqfd(event, self.gsi)?,
            (false, true) => self.vm.irqfd_off(event, self.gsi)?,
            _ => {}
        }
        *attached = message.is_some();
        Ok(())
    }
}

impl MsiVector for Vector {
    fn event(&self) -> Option<&EventFd> {
        self.event.as_ref()
    }

    fn route(&self, message: Option<Message>) -> io::Result<()> {
        self.event.as_ref().map_or(Ok(()), |event| self.connect(event, message)).map_err(io::Error::other)
    }

    fn send(&self, message: Message) -> io::Result<()> {
        let msi = kvm_msi {
            address_lo: message.address as u32,
            address_hi: (message.address >> 32) as u32,
            data: message.data,
            ..Default::default()
        };
        self.vm.fd().signal_msi(msi).map(drop).map_err(system)
    }
}
