//! Doorbells of devices: ioeventfds (KVM api.rst §4.59).

use std::io;

use devices::pci::doorbell::{Ioeventfds, Match, Place};
use kvm_ioctls::{IoEventAddress, NoDatamatch};
use vmm_sys_util::errno;
use vmm_sys_util::eventfd::EventFd;

use super::vm::Vm;

/// The machine's doorbells; `on` is `--ioeventfd`.
pub struct Doorbells {
    pub vm: Vm,
    pub on: bool,
}

fn address(place: Place) -> IoEventAddress {
    match place {
        Place::Memory(address) => IoEventAddress::Mmio(address),
        Place::Port(port) => IoEventAddress::Pio(port.into()),
    }
}

fn system(error: errno::Error) -> io::Error {
    io::Error::from_raw_os_error(error.errno())
}

impl Ioeventfds for Doorbells {
    fn attach(&self, place: Place, matching: Match, event: &EventFd) -> io::Result<bool> {
        if !self.on {
            return Ok(false);
        }
        let at = address(place);
        match matching {
            // Of length zero: VMX answers it before any instruction is decoded.
            Match::Any => self.vm.fd().register_ioevent(event, &at, NoDatamatch),
            Match::Value(value) => self.vm.fd().register_ioevent(event, &at, value),
        }
        .map(|()| true)
        .map_err(system)
    }

    fn detach(&self, place: Place, matching: Match, event: &EventFd) -> io::Result<()> {
        let at = address(place);
        match matching {
            Match::Any => self.vm.fd().unregister_ioevent(event, &at, NoDatamatch),
            Match::Value(value) => self.vm.fd().unregister_ioevent(event, &at, value),
        }
        .map_err(system)
    }
}
