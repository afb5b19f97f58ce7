//! A virtio device as a page of MMIO registers, version 2 (virtio 1.2 §4.2).
//!
//! One interrupt serves all queues, and each costs the driver two exits more than MSI-X: it reads
//! InterruptStatus and writes InterruptACK. Whoever serves a queue without this process (vhost) can't
//! set the status, so for such a device the register always answers "used buffer".

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use vmm_sys_util::eventfd::EventFd;

use crate::bus::{Effect, Registers};
use crate::pci::doorbell::{Doorbells, Ioeventfds, Match};
use crate::virtio::front::{Change, DeviceCounts, Front, set_half};
use crate::virtio::interrupt::{Interrupt, Line};

/// Bytes of registers and configuration space.
pub const SIZE: u64 = 0x1000;
const CONFIG: u64 = 0x100;
const QUEUE_NOTIFY: u64 = 0x50;
/// InterruptStatus (§4.2.2).
const USED_BUFFER: u32 = 1;
const CONFIG_CHANGE: u32 = 2;

/// A virtio device at an address.
pub struct VirtioMmio {
    front: Front,
    base: u64,
    pending: Arc<AtomicU32>,
    line: Line,
    doorbells: Doorbells,
}

/// The line, with the reason noted before it is raised.
struct Noted {
    reason: u32,
    pending: Arc<AtomicU32>,
    line: Line,
}

impl Interrupt for Noted {
    fn signal(&self) {
        self.pending.fetch_or(self.reason, Ordering::AcqRel);
        self.line.signal();
    }
    fn event(&self) -> Option<&EventFd> {
        self.line.event()
    }
}

impl VirtioMmio {
    /// A device whose registers are at `base` and whose interrupt, edge-triggered, is `line`.
    pub fn new(front: Front, base: u64, line: Line, ioeventfds: Arc<dyn Ioeventfds>) -> VirtioMmio {
        VirtioMmio { front, base, pending: Arc::default(), line, doorbells: Doorbells::new(ioeventfds) }
    }

    /// What the device has counted.
    pub fn counts(&mut self) -> DeviceCounts {
        self.front.counts()
    }

    /// Stops what it does in the background: the machine ends.
    pub fn quiesce(&mut self) {
        self.doorbells.clear();
        self.front.quiesce();
    }

    fn write_status(&mut self, value: u8) {
        let was_live = self.front.live();
        let (pending, line) = (&self.pending, &self.line);
        let change = self.front.write_status(value, |queue| {
            let reason = if queue.is_some() { USED_BUFFER } else { CONFIG_CHANGE };
            Arc::new(Noted { reason, pending: pending.clone(), line: line.clone() })
        });
        if change == Change::Reset {
            self.pending.store(0, Ordering::Release);
        }
        if was_live && !self.front.live() {
            self.doorbells.clear();
        } else if !was_live && self.front.live() {
            for (index, queue) in (0..).zip(self.front.queues()).filter(|(_, queue)| queue.enabled) {
                self.doorbells.attach(self.base + QUEUE_NOTIFY, Match::Value(index), &queue.kick);
            }
        }
    }

    fn load(&mut self, offset: u64) -> u32 {
        match offset {
            0x00 => u32::from_le_bytes(*b"virt"),
            0x04 => 2,
            0x08 => self.front.kind().id.into(),
            0x0c => u32::from_le_bytes(*b"vmm\0"),
            0x10 => self.front.device_features(),
            0x34 => self.front.selected().map_or(0, |queue| queue.max.into()),
            0x44 => self.front.selected().map_or(0, |queue| queue.enabled.into()),
            0x60 => {
                let offloaded = if self.front.offloaded() { USED_BUFFER } else { 0 };
                self.pending.load(Ordering::Acquire) | offloaded
            }
            0x70 => self.front.status().into(),
            // No shared memory region: its length reads as all ones (§4.2.2).
            0xb0..=0xbc => u32::MAX,
            _ => 0,
        }
    }

    fn store(&mut self, offset: u64, value: u32) {
        match offset {
            0x14 => self.front.device_half = value,
            0x20 => self.front.accept(value),
            0x24 => self.front.driver_half = value,
            0x30 => self.front.queue_select = u16::try_from(value).unwrap_or(u16::MAX),
            0x38 => {
                if let (Some(queue), Ok(size)) = (self.front.settle(), u16::try_from(value)) {
                    queue.set_size(size);
                }
            }
            0x44 => {
                if let (Some(queue), 1) = (self.front.settle(), value) {
                    queue.enabled = true;
                }
            }
            QUEUE_NOTIFY => self.front.kick(value),
            0x64 => drop(self.pending.fetch_and(!value, Ordering::AcqRel)),
            0x70 => self.write_status(value as u8),
            0x80..=0xa4 => {
                let Some(queue) = self.front.settle() else { return };
                let (layout, high) = (&mut queue.layout, offset & 4 != 0);
                match offset & !4 {
                    0x80 => set_half(&mut layout.descriptors, high, value),
                    0x90 => set_half(&mut layout.available, high, value),
                    0xa0 => set_half(&mut layout.used, high, value),
                    _ => {}
                }
            }
            _ => {}
        }
    }
}

impl Registers for VirtioMmio {
    fn name(&self) -> String {
        self.front.name().into()
    }

    fn register(&self, offset: u64, _: bool) -> &'static str {
        match offset {
            0x00..0x10 => "ID",
            0x10 => "DeviceFeatures",
            0x14 => "DeviceFeaturesSel",
            0x20 => "DriverFeatures",
            0x24 => "DriverFeaturesSel",
            0x30 => "QueueSel",
            0x34 => "QueueNumMax",
            0x38 => "QueueNum",
            0x44 => "QueueReady",
            QUEUE_NOTIFY => "QueueNotify",
            0x60 => "InterruptStatus",
            0x64 => "InterruptACK",
            0x70 => "Status",
            0x80..0x88 => "QueueDesc",
            0x90..0x98 => "QueueDriver",
            0xa0..0xa8 => "QueueDevice",
            0xfc => "ConfigGeneration",
            CONFIG.. => "Config",
            _ => "?",
        }
    }

    fn read(&mut self, offset: u64, data: &mut [u8]) {
        if offset >= CONFIG {
            return self.front.read_config(offset - CONFIG, data);
        }
        // §4.2.2.2: registers are 32 bits wide and aligned; anything else has no meaning.
        data.fill(0);
        if data.len() == 4 && offset.is_multiple_of(4) {
            data.copy_from_slice(&self.load(offset).to_le_bytes());
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Effect {
        if offset >= CONFIG {
            self.front.write_config(offset - CONFIG, data);
        } else if let (Ok(bytes), true) = (<[u8; 4]>::try_from(data), offset.is_multiple_of(4)) {
            self.store(offset, u32::from_le_bytes(bytes));
        }
        Effect::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::bringup::until;
    use crate::testing::driver::Driver;
    use crate::testing::machine::{Machine, memory};
    use crate::testing::toy::Toy;

    struct Wire(EventFd);

    impl Interrupt for Wire {
        fn signal(&self) {
            self.0.write(1).unwrap();
        }
        fn event(&self) -> Option<&EventFd> {
            Some(&self.0)
        }
    }

    const BASE: u64 = 0xd000_0000;

    fn load(device: &mut VirtioMmio, offset: u64) -> u32 {
        let mut data = [0xff; 4];
        device.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    fn store(device: &mut VirtioMmio, offset: u64, value: u32) {
        device.write(offset, &value.to_le_bytes());
    }

    fn device() -> (VirtioMmio, Driver, Arc<Wire>, Machine) {
        let (memory, machine) = (memory(), Machine::default());
        let wire = Arc::new(Wire(EventFd::new(0).unwrap()));
        let front = Front::new(Toy::boxed(), memory.clone(), false).unwrap();
        let device = VirtioMmio::new(front, BASE, wire.clone(), Arc::new(machine.clone()));
        (device, Driver::new(&memory, 0x1_0000, 16), wire, machine)
    }

    fn bring_up(device: &mut VirtioMmio, driver: &Driver) {
        for status in [0, 1, 3] {
            store(device, 0x70, status);
        }
        for half in [0, 1] {
            store(device, 0x14, half);
            let offered = load(device, 0x10);
            store(device, 0x24, half);
            store(device, 0x20, offered);
        }
        store(device, 0x70, 11);
        let layout = driver.layout;
        for (register, value) in [
            (0x30, 0),
            (0x38, 16),
            (0x80, layout.descriptors),
            (0x90, layout.available),
            (0xa0, layout.used),
            (0x44, 1),
            (0x70, 15),
        ] {
            store(device, register, value as u32);
        }
        assert_eq!(load(device, 0x70), 15);
    }

    #[test]
    fn an_interrupt_has_a_reason_until_it_is_acknowledged() {
        let (mut device, mut driver, wire, machine) = device();
        bring_up(&mut device, &driver);
        assert_eq!(machine.asked.lock().unwrap().doorbells, [(BASE + 0x50, Match::Value(0))]);
        let head = driver.chain(&[], &[(0x9000, 64)]);
        driver.offer(head);
        store(&mut device, 0x50, 0);
        assert_eq!(until(|| driver.used()), (head, 64));
        assert_eq!(wire.0.read().unwrap(), 1);
        assert_eq!(load(&mut device, 0x60), 1);
        store(&mut device, 0x64, 1);
        assert_eq!(load(&mut device, 0x60), 0);
        store(&mut device, 0x70, 0);
        assert!(machine.asked.lock().unwrap().doorbells.is_empty());
    }

    #[test]
    fn a_broken_ring_is_a_change_of_configuration() {
        let (mut device, mut driver, wire, _) = device();
        bring_up(&mut device, &driver);
        driver.offer(999);
        store(&mut device, 0x50, 0);
        assert_eq!(wire.0.read().unwrap(), 1);
        assert_eq!((load(&mut device, 0x60), load(&mut device, 0x70)), (2, 15 | 64));
        bring_up(&mut device, &Driver::new(&driver.memory, 0x1_0000, 16));
    }

    #[test]
    fn every_register_takes_every_store_of_every_width() {
        let (mut device, driver, ..) = device();
        for value in [0_u64, 1, 0x5555_5555_5555_5555, u64::MAX] {
            for offset in 0..0x110 {
                for len in [1, 2, 4, 8] {
                    device.read(offset, &mut value.to_le_bytes()[..len]);
                    device.write(offset, &value.to_le_bytes()[..len]);
                }
            }
        }
        bring_up(&mut device, &driver);
        assert_eq!((load(&mut device, 0), load(&mut device, 4)), (0x7472_6976, 2));
    }
}
