//! Any access to any device.

use std::io;
use std::sync::{Arc, Mutex};

use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{disk, memory, wire};
use crate::blk::{Blk, Engine};
use crate::bus::Bus;
use crate::ioapic::Ioapic;
use crate::line::{Line, Port};
use crate::msi::{Message, Routes};
use crate::net::{Net, Options};
use crate::pci::bus::{ECAM_SIZE, Ecam, PciBus, Ports, Window};
use crate::pci::conf1::{self, Conf1};
use crate::pci::doorbell::{Ioeventfds, Match, Place};
use crate::pci::msix::{MsiSink, MsiVector};
use crate::rng::Rng;
use crate::serial::Serial;
use crate::virtio::device::Device;
use crate::virtio::front::Front;
use crate::virtio::interrupt::Silent;
use crate::virtio::transport::mmio::VirtioMmio;
use crate::virtio::transport::pci::{Kicks, VirtioPci};
use crate::virtio::userspace::Tuning;

/// Where devices are, and how long: where accesses go.
const PLACES: [(u64, u64); 7] = [
    (0xe000_0000, ECAM_SIZE),
    (0xc000_0000, 0x2_0000),
    (0xd000_0000, 0x1000),
    (0xfec0_0000, 0x20),
    (0x3f8, 8),
    (conf1::PORT, conf1::LEN),
    (0x1000, 0x100),
];

/// A machine without a hypervisor: it takes what devices ask for, and nothing comes of it.
struct Nobody(EventFd);

impl Nobody {
    fn new() -> Nobody {
        Nobody(EventFd::new(EFD_NONBLOCK).expect("make an event fd"))
    }
}

impl Ioeventfds for Nobody {
    fn attach(&self, _: Place, _: Match, _: &EventFd) -> io::Result<bool> {
        Ok(true)
    }
    fn detach(&self, _: Place, _: Match, _: &EventFd) -> io::Result<()> {
        Ok(())
    }
}

impl MsiSink for Nobody {
    fn vector(&self) -> io::Result<Box<dyn MsiVector>> {
        Ok(Box::new(Nobody::new()))
    }
}

impl MsiVector for Nobody {
    fn event(&self) -> Option<&EventFd> {
        Some(&self.0)
    }
    fn route(&self, _: Option<Message>) -> io::Result<()> {
        Ok(())
    }
    fn send(&self, _: Message) -> io::Result<()> {
        Ok(())
    }
}

impl Routes for Nobody {
    fn route(&mut self, _: u32, _: Option<Message>) {}
}

impl Line for Nobody {
    fn transmit(&mut self, _: u8) {}
    fn room(&mut self) {}
}

/// A machine of one of each, and the guest's accesses to it: a byte of which device (or, 7, bytes into
/// memory), one of direction and length, two of where, then what is stored.
pub fn registers(mut data: &[u8]) {
    let (memory, nobody) = (memory(&[]), Arc::new(Nobody::new()));
    let mut pci = PciBus::new(PLACES[1].0..PLACES[1].0 + PLACES[1].1, 0x1000..0x1100).expect("make a bus");
    let (tap, far) = wire();
    let card = Options { mac: [2, 0, 0, 0, 0, 1], offload: true };
    let devices: [Box<dyn Device>; 2] = [
        Box::new(Blk::new("blk.0", disk(), Engine::Sync, 2, Tuning::default()).expect("make a disk")),
        Box::new(Net::userspace("net.0", tap, &card, Tuning::default())),
    ];
    for (device, kicks) in devices.into_iter().zip([Kicks::Port, Kicks::Memory]) {
        let front = Front::new(device, memory.clone(), true).expect("make its front");
        let function = VirtioPci::new(front, kicks, &*nobody, nobody.clone()).expect("make a function");
        pci.attach(Box::new(function)).expect("attach it");
    }
    let rng = Box::new(Rng::open("rng.0", Tuning::default()).expect("make a source"));
    let front = Front::new(rng, memory.clone(), true).expect("make its front");
    let mmio = VirtioMmio::new(front, PLACES[2].0, Arc::new(Silent), nobody.clone());
    let serial = Arc::new(Mutex::new(Serial::new(Nobody::new().0, Box::new(Nobody::new()))));
    let pci = Arc::new(Mutex::new(pci));
    let mut bus = Bus::default();
    let places: [crate::bus::Shared; 7] = [
        Arc::new(Mutex::new(Ecam(pci.clone()))),
        Arc::new(Mutex::new(Window(pci.clone()))),
        Arc::new(Mutex::new(mmio)),
        Arc::new(Mutex::new(Ioapic::new(4, Box::new(Nobody::new())))),
        serial.clone(),
        Arc::new(Mutex::new(Conf1::default())),
        Arc::new(Mutex::new(Ports(pci.clone()))),
    ];
    for ((base, len), device) in PLACES.into_iter().zip(places) {
        bus.attach(base, len, device).expect("no overlap");
    }
    while let Some((&[device, how, low, high], rest)) = data.split_first_chunk() {
        let (write, len) = (how & 8 != 0, usize::from(how & 7) + 1);
        let at = u64::from(low) | u64::from(high) << 8 | u64::from(how >> 4) << 16;
        let Some((bytes, rest)) = rest.split_at_checked(if write { len } else { 0 }) else { break };
        data = rest;
        match PLACES.get(usize::from(device & 7)) {
            Some((base, size)) => {
                let address = base + at % size;
                bus.describe(address, write);
                if write {
                    bus.write(address, bytes);
                } else {
                    bus.read(address, &mut [0; 8][..len]);
                }
            }
            None if device & 7 == 6 => {
                serial.lock().expect("nobody panics").push(bytes);
                let _ = far.send(bytes);
            }
            None => {
                let _ = memory.write_slice(bytes, GuestAddress(at));
            }
        }
    }
    pci.lock().expect("nobody panics").quiesce();
    pci.lock().expect("nobody panics").counts();
}
