//! A virtio device as a page of MMIO registers, version 2 (virtio 1.2 §4.2).
//!
//! One interrupt serves all queues, and each costs the driver two exits more than MSI-X: it reads
//! InterruptStatus and writes InterruptACK. Whoever serves a queue without this process (vhost) can't
//! set the status, so for such a device the register always answers "used buffer".

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use vmm_sys_util::eventfd::EventFd;

use crate::bus::{Effect, Registers};
use crate::pci::doorbell::{Doorbells, Ioeventfds, Match, Place};
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
            // Linux's driver of this transport doesn't look whether it is complete before it frees the rings.
            self.front.finish_reset();
            self.pending.store(0, Ordering::Release);
        }
        if was_live && !self.front.live() {
            self.doorbells.clear();
        } else if !was_live && self.front.live() {
            for (index, queue) in (0..).zip(self.front.queues()).filter(|(_, queue)| queue.enabled) {
                self.doorbells.attach(
                    Place::Memory(self.base + QUEUE_NOTIFY),
                    Match::Value(index),
                    &queue.kick,
                );
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
            0xfc => self.front.generation().into(),
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
mod tests;
