//! A virtio device as a PCI function: modern capabilities, MSI-X (virtio 1.2 §4.1).
//!
//! BAR 0:
//!
//! ```text
//!   0x0000  common configuration        ─┐
//!   0x0400  ISR status                   │ exits: used while a driver sets up
//!   0x0800  device configuration        ─┘
//!   0x1000  MSI-X table
//!   0x1800  MSI-X pending bits
//!   0x2000  doorbells, 4 bytes apart: a page of its own, an ioeventfd each
//!   0x4000  end
//! ```
//!
//! BAR 2, where they are ports: doorbells, 4 apart. Those in memory are there, too, and exits then.
//!
//! - [`capability`]  the capabilities that say so
//! - [`common`]      the registers of the common configuration

mod capability;
mod common;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use common::Common;

use crate::pci::config::{ConfigSpace, Identity};
use crate::pci::doorbell::{Doorbells, Ioeventfds, Match, Place};
use crate::pci::function::Function;
use crate::pci::msix::{MsiSink, Msix};
use crate::virtio::front::{Change, DeviceCounts, Front};
use crate::virtio::interrupt::{Line, Silent};

const BAR_SIZE: u64 = 0x4000;
const ISR: u64 = 0x400;
const DEVICE: u64 = 0x800;
const TABLE: u64 = 0x1000;
const PENDING: u64 = 0x1800;
const DOORBELLS: u64 = 0x2000;
/// §4.1.4.4: bytes from one queue's doorbell to the next.
const DOORBELL_STRIDE: u64 = 4;

/// Where a driver is to kick. KVM knows an `out` by its exit alone; of a store it has to read and decode the
/// instruction, but on Intel's processors for an address that nothing else is at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kicks {
    #[default]
    Port,
    Memory,
}

/// PCI Local Bus 3.0 §6.2.5.1: no I/O BAR is larger.
const MOST_PORTS: u16 = 256;

/// A virtio device on the PCI bus.
pub struct VirtioPci {
    front: Front,
    msix: Msix,
    common: Common,
    doorbells: Doorbells,
    base: Option<u64>,
    /// Of its doorbells, where they are ports; and the first of them.
    ports: u16,
    port: Option<u16>,
    /// Where the MSI-X and the configuration access capabilities are.
    msix_at: usize,
    access_at: usize,
}

impl VirtioPci {
    /// Puts a function around a device, with an MSI-X vector for each queue and one more. One with more queues
    /// than it may have ports, or than there are left, is kicked in memory all the same.
    pub fn new(
        front: Front,
        kicks: Kicks,
        sink: &dyn MsiSink,
        ioeventfds: Arc<dyn Ioeventfds>,
    ) -> io::Result<VirtioPci> {
        let queues = front.queues().len() as u16;
        let ports = queues.next_power_of_two() * DOORBELL_STRIDE as u16;
        let by_port = kicks == Kicks::Port && ports <= MOST_PORTS;
        Ok(VirtioPci {
            msix: Msix::new(queues + 1, sink)?,
            common: Common::new(queues),
            doorbells: Doorbells::new(ioeventfds),
            base: None,
            ports: if by_port { ports } else { 0 },
            port: None,
            msix_at: 0,
            access_at: 0,
            front,
        })
    }

    /// Doorbells follow the BAR, and are there from DRIVER_OK on.
    fn hang_doorbells(&mut self) {
        self.doorbells.clear();
        if !self.front.live() {
            return;
        }
        let place = |index: u64| match self.ports {
            0 => self.base.map(|base| Place::Memory(base + DOORBELLS + index * DOORBELL_STRIDE)),
            _ => self.port.map(|port| Place::Port(port + (index * DOORBELL_STRIDE) as u16)),
        };
        for (queue, index) in self.front.queues().iter().zip(0..).filter(|(queue, _)| queue.enabled) {
            if let Some(place) = place(index) {
                self.doorbells.attach(place, Match::Any, &queue.kick);
            }
        }
    }

    fn write_status(&mut self, value: u8) {
        let was_live = self.front.live();
        let (common, msix) = (&self.common, &self.msix);
        let line = |queue| -> Line {
            match msix.vector(common.vector(queue)) {
                Some(vector) => vector.clone(),
                None => Arc::new(Silent),
            }
        };
        if self.front.write_status(value, line) == Change::Reset {
            self.common.reset();
        }
        if was_live != self.front.live() {
            self.hang_doorbells();
        }
    }

    /// §4.1.4.9: configuration space reaches into the BARs. A store of data is done at once; a load is
    /// prepared when its place is set, as loads of configuration space are not seen.
    fn access(&mut self, config: &mut ConfigSpace, offset: usize) {
        let at = self.access_at;
        let [bar] = config.bytes(at + 4);
        let place = u64::from(u32::from_le_bytes(config.bytes(at + 8)));
        let len = u32::from_le_bytes(config.bytes(at + 12)) as usize;
        if bar == capability::PORTS_BAR && offset >= at + 16 && place < self.ports.into() {
            self.write_port(place as u16);
        }
        if bar != 0 || !matches!(len, 1 | 2 | 4) || place + len as u64 > BAR_SIZE {
            return;
        }
        let mut data = config.bytes::<4>(at + 16);
        if offset >= at + 16 {
            self.write(place, &data[..len]);
        } else {
            self.read(place, &mut data[..len]);
            config.set(at + 16, &data);
        }
    }
}

impl Function for VirtioPci {
    fn name(&self) -> String {
        self.front.name().into()
    }

    fn identity(&self) -> Identity {
        // §4.1.2: 0x1040 and the device ID, revision 1 or more.
        let kind = self.front.kind();
        let device = 0x1040 + kind.id;
        Identity { vendor: 0x1af4, device, revision: 1, class: kind.class, subsystem: (0x1af4, device) }
    }

    fn bar_size(&self) -> u64 {
        BAR_SIZE
    }

    fn install(&mut self, config: &mut ConfigSpace) {
        self.msix_at = capability::msix(config, self.msix.len());
        self.access_at = capability::virtio(config, self.ports);
    }

    fn configured(&mut self, config: &mut ConfigSpace, offset: usize, len: usize) {
        let touches = |start: usize, end: usize| offset < end && start < offset + len;
        if touches(self.msix_at, self.msix_at + 4) {
            self.msix.control(u16::from_le_bytes(config.bytes(self.msix_at + 2)));
        }
        if touches(self.access_at, self.access_at + 20) {
            self.access(config, offset);
        }
    }

    fn moved(&mut self, base: Option<u64>) {
        self.base = base;
        self.hang_doorbells();
    }

    fn ports(&self) -> u16 {
        self.ports
    }

    fn deny_ports(&mut self) {
        self.ports = 0;
    }

    fn ports_moved(&mut self, base: Option<u16>) {
        self.port = base;
        self.hang_doorbells();
    }

    fn write_port(&mut self, offset: u16) {
        self.front.kick((u64::from(offset) / DOORBELL_STRIDE) as u32);
    }

    fn register(&self, offset: u64, _: bool) -> &'static str {
        match offset {
            0..ISR => Common::name(offset),
            ISR..DEVICE => "ISR",
            DEVICE..TABLE => "DEVICE_CONFIG",
            TABLE..PENDING => "MSIX_TABLE",
            PENDING..DOORBELLS => "MSIX_PENDING",
            _ => "NOTIFY",
        }
    }

    fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        match offset {
            0..ISR => self.common.read(&mut self.front, offset, data),
            DEVICE..TABLE => self.front.read_config(offset - DEVICE, data),
            TABLE..PENDING => self.msix.read_table((offset - TABLE) as usize, data),
            PENDING..DOORBELLS => self.msix.read_pending((offset - PENDING) as usize, data),
            // ISR: interrupts are by MSI-X alone, so no bit is ever set (§4.1.4.5).
            _ => {}
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        match offset {
            0..ISR => {
                if let Some(status) = self.common.write(&mut self.front, self.msix.len(), offset, data) {
                    self.write_status(status);
                }
            }
            DEVICE..TABLE => self.front.write_config(offset - DEVICE, data),
            TABLE..PENDING => self.msix.write_table((offset - TABLE) as usize, data),
            DOORBELLS.. => self.front.kick(((offset - DOORBELLS) / DOORBELL_STRIDE) as u32),
            _ => {}
        }
    }

    fn counts(&mut self) -> Option<DeviceCounts> {
        Some(self.front.counts())
    }

    fn quiesce(&mut self) {
        self.doorbells.clear();
        self.front.quiesce();
    }
}
