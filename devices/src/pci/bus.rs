//! Bus 0: slots, ECAM and the window that BARs move in.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vm_memory::mmap::MmapRegion;

use super::config::{ConfigSpace, PAGE};
use super::function::{Function, HostBridge};
use crate::bus::{Effect, Registers};
use crate::virtio::front::DeviceCounts;

/// Bytes of ECAM for one bus: 32 slots of 8 functions of 4 KiB.
pub const ECAM_SIZE: u64 = 1 << 20;
/// Bytes of ECAM from a slot to the next.
const STRIDE: usize = 8 * PAGE;
/// Slots of a bus.
const SLOTS: usize = 32;

/// One bus and what is on it.
pub struct PciBus {
    pages: Arc<MmapRegion<()>>,
    window: Range<u64>,
    /// The first address of `window` that no BAR was given.
    free: u64,
    ports: Range<u16>,
    free_port: u16,
    slots: Vec<Slot>,
}

struct Slot {
    config: ConfigSpace,
    function: Box<dyn Function>,
    /// Where its BAR answers now, and its ports.
    base: Option<u64>,
    port: Option<u16>,
}

/// A function can't be put on the bus.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    #[error("attach {0} to PCI: all 32 slots are taken")]
    Full(String),
    #[error("attach {0} to PCI: no room for its BAR in the window")]
    Window(String),
}

impl PciBus {
    /// A bus with its host bridge, whose BARs live in `window` and in `ports`.
    pub fn new(window: Range<u64>, ports: Range<u16>) -> io::Result<PciBus> {
        let pages = MmapRegion::new(ECAM_SIZE as usize).map_err(io::Error::other)?;
        let mut bus = PciBus {
            pages: Arc::new(pages),
            free: window.start,
            window,
            free_port: ports.start,
            ports,
            slots: Vec::new(),
        };
        bus.attach(Box::new(HostBridge)).map_err(io::Error::other)?;
        Ok(bus)
    }

    /// Puts a function into the next slot and gives its BAR an address. Returns the slot.
    pub fn attach(&mut self, mut function: Box<dyn Function>) -> Result<usize, AttachError> {
        let slot = self.slots.len();
        if slot == SLOTS {
            return Err(AttachError::Full(function.name()));
        }
        let mut config = ConfigSpace::new(self.pages.clone(), slot * STRIDE, function.identity());
        let size = function.bar_size();
        if size > 0 {
            let base = self.free.next_multiple_of(size);
            if base + size > self.window.end {
                return Err(AttachError::Window(function.name()));
            }
            self.free = base + size;
            config.add_bar(size, base);
        }
        match self.room(function.ports()) {
            Some(base) => {
                self.free_port = base + function.ports();
                config.add_io_bar(function.ports(), base);
            }
            None => function.deny_ports(),
        }
        function.install(&mut config);
        self.slots.push(Slot { config, function, base: None, port: None });
        self.place(slot);
        Ok(slot)
    }

    /// Where so many ports are free, a power of two.
    fn room(&self, ports: u16) -> Option<u16> {
        let base = self.free_port.checked_next_multiple_of(ports)?;
        (base.checked_add(ports)? <= self.ports.end).then_some(base)
    }

    /// The pages behind ECAM, for the machine to map as a read-only slot: host address and length.
    ///
    /// The page of a slot without a function reads as zero, which no vendor has: what scans a bus
    /// takes it for an empty slot, as it does all ones.
    pub fn ecam_pages(&self) -> (u64, u64) {
        (self.pages.as_ptr() as u64, ECAM_SIZE)
    }

    /// What every device on the bus has counted.
    pub fn counts(&mut self) -> Vec<DeviceCounts> {
        self.slots.iter_mut().filter_map(|slot| slot.function.counts()).collect()
    }

    /// Stops every device: the machine ends.
    pub fn quiesce(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.function.quiesce());
    }

    /// Tells a function where its BAR is, if that has changed.
    fn place(&mut self, slot: usize) {
        let slot = &mut self.slots[slot];
        let ports = slot.function.ports();
        let fits = |base: &u16| {
            *base >= self.ports.start && *base < self.ports.end && self.ports.end - base >= ports
        };
        let port = slot.config.io_bar().filter(fits).filter(|_| ports > 0);
        if port != slot.port {
            slot.port = port;
            slot.function.ports_moved(port);
        }
        let size = slot.function.bar_size();
        if size == 0 {
            return;
        }
        let fits = |base: &u64| {
            *base >= self.window.start && base.checked_add(size).is_some_and(|end| end <= self.window.end)
        };
        let base = slot.config.bar().filter(fits);
        if base != slot.base {
            slot.base = base;
            slot.function.moved(base);
        }
    }

    fn at_port(&self, port: u16) -> Option<(usize, u16)> {
        self.slots.iter().enumerate().find_map(|(index, slot)| {
            let offset = port.checked_sub(slot.port?)?;
            (offset < slot.function.ports()).then_some((index, offset))
        })
    }

    fn at(&self, address: u64) -> Option<(usize, u64)> {
        self.slots.iter().enumerate().find_map(|(index, slot)| {
            let offset = address.checked_sub(slot.base?)?;
            (offset < slot.function.bar_size()).then_some((index, offset))
        })
    }
}

/// The window of ports as a device on the port bus. Put it where the bus was told its ports are.
pub struct Ports(pub Arc<Mutex<PciBus>>);

/// ECAM as a device on the memory bus. Put it at the address that MCFG names.
pub struct Ecam(pub Arc<Mutex<PciBus>>);

/// The window of BARs as a device on the memory bus. Put it where the bus was told its window is.
pub struct Window(pub Arc<Mutex<PciBus>>);

fn lock(bus: &Mutex<PciBus>) -> MutexGuard<'_, PciBus> {
    bus.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registers for Ecam {
    fn name(&self) -> String {
        "pci-config".into()
    }

    fn register(&self, offset: u64, _: bool) -> &'static str {
        match offset as usize % PAGE {
            0x00..0x04 => "VENDOR",
            0x04..0x06 => "COMMAND",
            0x06..0x08 => "STATUS",
            0x10..0x28 => "BAR",
            0x3c..0x40 => "INTERRUPT",
            0x40..0x100 => "CAPABILITY",
            _ => "HEADER",
        }
    }

    fn read(&mut self, offset: u64, data: &mut [u8]) {
        let (slot, at) = (offset as usize / STRIDE, offset as usize % STRIDE);
        if let (Some(slot), true) = (lock(&self.0).slots.get(slot), at < PAGE) {
            slot.config.read(at, data);
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Effect {
        let (index, at) = (offset as usize / STRIDE, offset as usize % STRIDE);
        let mut bus = lock(&self.0);
        if let (Some(slot), true) = (bus.slots.get_mut(index), at < PAGE) {
            slot.config.write(at, data);
            slot.function.configured(&mut slot.config, at, data.len());
            bus.place(index);
        }
        Effect::None
    }
}

impl Registers for Window {
    fn name(&self) -> String {
        "pci".into()
    }

    fn register(&self, _: u64, _: bool) -> &'static str {
        "?"
    }

    fn describe(&self, offset: u64, write: bool) -> (String, &'static str) {
        let bus = lock(&self.0);
        match bus.at(bus.window.start + offset) {
            Some((slot, at)) => {
                (bus.slots[slot].function.name(), bus.slots[slot].function.register(at, write))
            }
            None => (self.name(), "?"),
        }
    }

    fn read(&mut self, offset: u64, data: &mut [u8]) {
        let mut bus = lock(&self.0);
        if let Some((slot, at)) = bus.at(bus.window.start + offset) {
            bus.slots[slot].function.read(at, data);
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Effect {
        let mut bus = lock(&self.0);
        if let Some((slot, at)) = bus.at(bus.window.start + offset) {
            bus.slots[slot].function.write(at, data);
        }
        Effect::None
    }
}

impl Registers for Ports {
    fn name(&self) -> String {
        "pci".into()
    }

    fn register(&self, _: u64, _: bool) -> &'static str {
        "?"
    }

    fn describe(&self, offset: u64, _: bool) -> (String, &'static str) {
        let bus = lock(&self.0);
        match bus.at_port(bus.ports.start + offset as u16) {
            Some((slot, _)) => (bus.slots[slot].function.name(), "NOTIFY"),
            None => (self.name(), "?"),
        }
    }

    fn read(&mut self, _: u64, _: &mut [u8]) {}

    fn write(&mut self, offset: u64, _: &[u8]) -> Effect {
        let mut bus = lock(&self.0);
        if let Some((slot, at)) = bus.at_port(bus.ports.start + offset as u16) {
            bus.slots[slot].function.write_port(at);
        }
        Effect::None
    }
}
