//! A driver that brings a device up through the registers of its PCI function.

use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::driver::Driver;
use super::machine::{self, Machine};
use crate::bus::Registers;
use crate::pci::bus::{Ecam, PciBus, Ports, Window};
use crate::sys::Memory;
use crate::virtio::device::Device;
use crate::virtio::front::Front;
use crate::virtio::transport::pci::{Kicks, VirtioPci};

/// A window of BARs.
pub const BASE: u64 = 0xc000_0000;
/// A window of ports.
pub const PORT: u16 = 0x1000;
const SLOT: u64 = 0x8000;
/// The device's configuration space in its BAR.
pub const DEVICE: u64 = 0x800;

/// A device on a bus, with drivers for its queues.
pub struct Rig {
    pub memory: Memory,
    pub machine: Machine,
    pub bus: Arc<Mutex<PciBus>>,
    pub drivers: Vec<Driver>,
}

impl Rig {
    /// Puts a device on a bus.
    pub fn new(device: Box<dyn Device>, by_ioctl: bool) -> Rig {
        let (memory, machine) = (machine::memory(), Machine { by_ioctl, ..Machine::default() });
        Rig::on(machine, memory, device)
    }

    /// The same, where the device was made for a memory.
    pub fn on(machine: Machine, memory: Memory, device: Box<dyn Device>) -> Rig {
        Rig::kicked_by(Kicks::Memory, machine, memory, device)
    }

    /// The same, kicked somewhere else.
    pub fn kicked_by(kicks: Kicks, machine: Machine, memory: Memory, device: Box<dyn Device>) -> Rig {
        let front = Front::new(device, memory.clone(), true).unwrap();
        let function = VirtioPci::new(front, kicks, &machine, Arc::new(machine.clone())).unwrap();
        let mut bus = PciBus::new(BASE..BASE + (1 << 20), PORT..PORT + 0x100).unwrap();
        bus.attach(Box::new(function)).unwrap();
        Rig { memory, machine, bus: Arc::new(Mutex::new(bus)), drivers: Vec::new() }
    }

    pub fn load(&self, offset: u64, len: usize) -> u64 {
        let mut data = [0; 8];
        data[..len].fill(0xff);
        Window(self.bus.clone()).read(offset, &mut data[..len]);
        u64::from_le_bytes(data)
    }

    pub fn store(&self, offset: u64, len: usize, value: u64) {
        Window(self.bus.clone()).write(offset, &value.to_le_bytes()[..len]);
    }

    pub fn config(&self, offset: u64, len: usize) -> u64 {
        let mut data = [0; 8];
        Ecam(self.bus.clone()).read(SLOT + offset, &mut data[..len]);
        u64::from_le_bytes(data)
    }

    pub fn set_config(&self, offset: u64, len: usize, value: u64) {
        Ecam(self.bus.clone()).write(SLOT + offset, &value.to_le_bytes()[..len]);
    }

    /// The features on offer.
    pub fn offered(&self) -> u64 {
        self.store(0, 4, 0);
        let low = self.load(4, 4);
        self.store(0, 4, 1);
        low | self.load(4, 4) << 32
    }

    /// Enables MSI-X with every vector open: vector n sends data n.
    pub fn open_vectors(&self, count: u64) {
        for n in 0..count {
            self.store(0x1000 + 16 * n, 8, 0xfee0_0000);
            self.store(0x1008 + 16 * n, 8, n);
        }
        self.set_config(0x42, 2, 0x8000);
    }

    /// From reset to DRIVER_OK: all that is offered but `without`, each queue of `size` with a vector.
    pub fn bring_up(&mut self, size: u16, without: u64) {
        self.store(20, 1, 0);
        until(|| (self.load(20, 1) == 0).then_some(()));
        self.store(20, 1, 1);
        self.store(20, 1, 3);
        let features = self.offered() & !without;
        for half in 0..2 {
            self.store(8, 4, half);
            self.store(12, 4, features >> (32 * half) & 0xffff_ffff);
        }
        self.store(20, 1, 11);
        assert_eq!(self.load(20, 1), 11, "features refused");
        let queues = self.load(18, 2);
        self.open_vectors(queues + 1);
        self.store(16, 2, 0);
        self.drivers.clear();
        for index in 0..queues {
            let driver = Driver::new(&self.memory, 0x10_0000 + 0x1_0000 * index, size);
            self.store(22, 2, index);
            self.store(24, 2, size.into());
            self.store(26, 2, index + 1);
            for (at, address) in
                [(32, driver.layout.descriptors), (40, driver.layout.available), (48, driver.layout.used)]
            {
                self.store(at, 4, address & 0xffff_ffff);
                self.store(at + 4, 4, address >> 32);
            }
            self.store(28, 2, 1);
            self.drivers.push(driver);
        }
        self.store(20, 1, 15);
    }

    /// Rings a queue's doorbell.
    pub fn kick(&self, queue: u64) {
        self.store(0x2000 + 4 * queue, 2, queue);
    }

    /// Rings it at a port.
    pub fn kick_port(&self, queue: u64) {
        Ports(self.bus.clone()).write(4 * queue, &(queue as u16).to_le_bytes());
    }

    /// Waits for the next used buffer of a queue: head and length.
    pub fn wait(&mut self, queue: usize) -> (u16, u32) {
        until(|| self.drivers[queue].used())
    }

    /// Waits for DEVICE_NEEDS_RESET.
    pub fn wait_broken(&self) {
        until(|| (self.load(20, 1) & 64 != 0).then_some(()));
    }
}

/// Waits until something is there, five seconds at most.
pub fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(5), "waited too long");
        sleep(Duration::from_micros(50));
    }
}
