//! From reset to DRIVER_OK (virtio 1.2 §3.1.1), whatever the bus. All of it happens before the clock of
//! a workload starts: each register is an exit.

use super::queue::{Layout, Options};
use super::registers::Registers;
use super::{Refused, mmio, pci};

/// Device types (§5).
pub const NET: u16 = 1;
pub const BLK: u16 = 2;
const CONSOLE: u16 = 3;
const RNG: u16 = 4;
const VSOCK: u16 = 19;
/// Those that a machine of ours may have.
pub const TYPES: [u16; 5] = [NET, BLK, CONSOLE, RNG, VSOCK];

/// Features of every type (§6).
pub const INDIRECT: u64 = 1 << 28;
pub const EVENT_IDX: u64 = 1 << 29;
pub const VERSION_1: u64 = 1 << 32;

/// Device status (§2.1).
const ACKNOWLEDGE: u8 = 1;
const DRIVER: u8 = 2;
const DRIVER_OK: u8 = 4;
const FEATURES_OK: u8 = 8;
const NEEDS_RESET: u8 = 64;
const FAILED: u8 = 128;
/// A device that has not reset by so many looks never will. Miri takes a minute for as many.
const RESET_LOOKS: u32 = if cfg!(miri) { 100 } else { 10_000 };
/// "No vector" (§4.1.5.1.2).
const NO_VECTOR: u16 = 0xffff;

/// Where devices are looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Buses {
    /// Configuration space of bus 0; 0: there is no PCI.
    pub ecam: usize,
    pub pages: mmio::Pages,
}

/// One device, by its registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Pci(pci::Function),
    Mmio(mmio::Page),
}

/// The store or the `out` that is a kick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doorbell {
    at: Bell,
    queue: u16,
}

/// Where it goes, and how wide it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bell {
    Short(usize),
    Long(usize),
    Port(u16),
}

impl Doorbell {
    /// Nobody's.
    pub const NONE: Doorbell = Doorbell { at: Bell::Short(0), queue: 0 };

    #[inline]
    pub fn ring(&self, io: &dyn Registers) {
        match self.at {
            Bell::Short(address) => io.store16(address, self.queue),
            Bell::Long(address) => io.store32(address, self.queue.into()),
            Bell::Port(port) => io.out16(port, self.queue),
        }
    }
}

/// Resets every device: whoever has used them is no more.
pub fn reset_all(io: &dyn Registers, buses: &Buses) {
    for kind in TYPES {
        for place in (0..).map_while(|index| find(io, buses, kind, index).ok()) {
            // One that doesn't reset can't be helped.
            let _ = Device { place, features: 0 }.reset(io);
        }
    }
}

/// A device with its features agreed upon.
#[derive(Clone, Copy, Debug)]
pub struct Device {
    place: Place,
    pub features: u64,
}

/// The `index`th device of type `kind`.
pub fn find(io: &dyn Registers, buses: &Buses, kind: u16, index: usize) -> Result<Place, Refused> {
    match buses.ecam {
        0 => mmio::find(io, &buses.pages, kind, index).map(Place::Mmio),
        ecam => pci::find(io, ecam, kind, index).map(Place::Pci),
    }
}

impl Device {
    /// Resets it and agrees on features: all of `needed`, and what there is of `wanted`.
    pub fn begin(io: &dyn Registers, place: Place, needed: u64, wanted: u64) -> Result<Device, Refused> {
        let mut device = Device { place, features: 0 };
        device.reset(io)?;
        device.set_status(io, ACKNOWLEDGE);
        device.set_status(io, ACKNOWLEDGE | DRIVER);
        let offered = [0, 1].map(|half| u64::from(device.offered(io, half)));
        let offered = offered[0] | offered[1] << 32;
        let needed = needed | VERSION_1;
        if offered & needed != needed {
            device.set_status(io, FAILED);
            return Err(Refused("feature-missing"));
        }
        device.features = offered & (needed | wanted);
        for half in [0, 1] {
            device.accept(io, half, (device.features >> (32 * half)) as u32);
        }
        device.set_status(io, ACKNOWLEDGE | DRIVER | FEATURES_OK);
        if device.status(io) & FEATURES_OK == 0 {
            device.set_status(io, FAILED);
            return Err(Refused("features-refused"));
        }
        Ok(device)
    }

    pub fn has(&self, feature: u64) -> bool {
        self.features & feature != 0
    }

    /// Interrupts that it has for its queues.
    pub fn vectors(&self) -> u16 {
        match self.place {
            Place::Pci(at) => at.vectors,
            Place::Mmio(_) => 1,
        }
    }

    /// What was agreed about rings.
    pub fn rings(&self) -> Options {
        Options { indirect: self.has(INDIRECT), event_idx: self.has(EVENT_IDX) }
    }

    /// The size that the device allows for a queue, or 0 where there is none.
    pub fn queue_size(&self, io: &dyn Registers, queue: u16) -> u16 {
        match self.place {
            Place::Pci(at) => {
                io.store16(at.common + 22, queue);
                io.load16(at.common + 24)
            }
            Place::Mmio(at) => {
                io.store32(at.base + 0x30, queue.into());
                u16::try_from(io.load32(at.base + 0x34)).unwrap_or(u16::MAX)
            }
        }
    }

    /// Enables a queue that lies at `address`; it interrupts this CPU with this vector, or nobody.
    pub fn add_queue(
        &self,
        io: &dyn Registers,
        queue: u16,
        layout: &Layout,
        address: u64,
        interrupt: Option<(usize, u8)>,
    ) -> Result<Doorbell, Refused> {
        let addresses = layout.addresses(address);
        match self.place {
            Place::Pci(at) => {
                let common = at.common;
                io.store16(common + 22, queue);
                io.store16(common + 24, layout.size as u16);
                let vector = match interrupt {
                    None => NO_VECTOR,
                    Some(_) if at.vectors == 0 => return Err(Refused("no-msi-x")),
                    Some((cpu, vector)) => {
                        // Its own, where there are enough.
                        let entry = queue.min(at.vectors - 1);
                        at.route(io, entry, cpu, vector);
                        entry
                    }
                };
                io.store16(common + 26, vector);
                if io.load16(common + 26) != vector {
                    return Err(Refused("vector-refused"));
                }
                for (register, value) in [32, 40, 48].into_iter().zip(addresses) {
                    io.store32(common + register, value as u32);
                    io.store32(common + register + 4, (value >> 32) as u32);
                }
                let at = match at.doorbell(io.load16(common + 30))? {
                    pci::Notify::Memory(address) => Bell::Short(address),
                    pci::Notify::Port(port) => Bell::Port(port),
                };
                io.store16(common + 28, 1);
                Ok(Doorbell { at, queue })
            }
            Place::Mmio(at) => {
                let base = at.base;
                if let Some((cpu, vector)) = interrupt {
                    at.route(io, cpu, vector);
                }
                io.store32(base + 0x30, queue.into());
                io.store32(base + 0x38, layout.size as u32);
                for (register, value) in [0x80, 0x90, 0xa0].into_iter().zip(addresses) {
                    io.store32(base + register, value as u32);
                    io.store32(base + register + 4, (value >> 32) as u32);
                }
                io.store32(base + 0x44, 1);
                Ok(Doorbell { at: Bell::Long(base + 0x50), queue })
            }
        }
    }

    /// All queues are there: go.
    pub fn start(&self, io: &dyn Registers) -> Result<(), Refused> {
        self.set_status(io, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
        match self.status(io) & NEEDS_RESET {
            0 => Ok(()),
            _ => Err(Refused("device-needs-reset")),
        }
    }

    /// After an interrupt: MMIO wants it acknowledged, two exits (§4.2.2).
    pub fn acknowledge(&self, io: &dyn Registers) {
        if let Place::Mmio(at) = self.place {
            io.store32(at.base + 0x64, io.load32(at.base + 0x60));
        }
    }

    /// Afterwards it touches no memory.
    pub fn reset(&self, io: &dyn Registers) -> Result<(), Refused> {
        self.set_status(io, 0);
        match (0..RESET_LOOKS).any(|_| self.status(io) == 0) {
            true => Ok(()),
            false => Err(Refused("device-does-not-reset")),
        }
    }

    /// A byte of its configuration.
    pub fn config8(&self, io: &dyn Registers, at: usize) -> u8 {
        io.load8(self.config() + at)
    }

    /// 16 bits of its configuration.
    pub fn config16(&self, io: &dyn Registers, at: usize) -> u16 {
        io.load16(self.config() + at)
    }

    /// 64 bits of its configuration, of a field that doesn't change.
    pub fn config64(&self, io: &dyn Registers, at: usize) -> u64 {
        let [low, high] = [0, 4].map(|half| u64::from(io.load32(self.config() + at + half)));
        low | high << 32
    }

    fn config(&self) -> usize {
        match self.place {
            Place::Pci(at) => at.device,
            Place::Mmio(at) => at.base + 0x100,
        }
    }

    fn offered(&self, io: &dyn Registers, half: u32) -> u32 {
        let (select, value) = match self.place {
            Place::Pci(at) => (at.common, at.common + 4),
            Place::Mmio(at) => (at.base + 0x14, at.base + 0x10),
        };
        io.store32(select, half);
        io.load32(value)
    }

    fn accept(&self, io: &dyn Registers, half: u32, features: u32) {
        let (select, value) = match self.place {
            Place::Pci(at) => (at.common + 8, at.common + 12),
            Place::Mmio(at) => (at.base + 0x24, at.base + 0x20),
        };
        io.store32(select, half);
        io.store32(value, features);
    }

    fn status(&self, io: &dyn Registers) -> u8 {
        match self.place {
            Place::Pci(at) => io.load8(at.common + 20),
            Place::Mmio(at) => io.load32(at.base + 0x70) as u8,
        }
    }

    fn set_status(&self, io: &dyn Registers, status: u8) {
        match self.place {
            Place::Pci(at) => io.store8(at.common + 20, status),
            Place::Mmio(at) => io.store32(at.base + 0x70, status.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Bank;
    use super::*;

    /// A device at address 0, as a page of registers or a function whose BAR that is.
    const MMIO: Place = Place::Mmio(mmio::Page::at(0, 5));

    fn pci(vectors: u16) -> Place {
        Place::Pci(pci::Function { common: 0, device: 0x800, vectors, ..pci::Function::default() })
    }

    /// What such a device offers: version 1 and event indices.
    fn offers(bank: &Bank, address: usize, value: u32) -> u32 {
        let half = |select: usize| if bank.word(select, 4) == 0 { EVENT_IDX as u32 } else { 1 };
        match address {
            0x04 => half(0),
            0x10 => half(0x14),
            _ => value,
        }
    }

    fn bank(answer: fn(&Bank, usize, u32) -> u32) -> Bank {
        Bank { answer, ..Bank::new(0x1000) }
    }

    #[test]
    fn features_are_agreed_upon() {
        for place in [MMIO, pci(3)] {
            let io = bank(offers);
            let device = Device::begin(&io, place, 0, INDIRECT | EVENT_IDX).unwrap();
            assert_eq!(device.features, VERSION_1 | EVENT_IDX);
            assert!(device.rings().event_idx && !device.rings().indirect);
            device.start(&io).unwrap();
            assert_eq!(device.status(&io), 15);
        }
    }

    #[test]
    fn a_queue_is_told_where_it_is() {
        let layout = Layout::new(16, 256, 1, Options::default()).unwrap();
        let io = bank(offers);
        let device = Device::begin(&io, pci(0), 0, 0).unwrap();
        let bell = device.add_queue(&io, 3, &layout, 0x12_3456_7000, None).unwrap();
        assert_eq!(bell, Doorbell { at: Bell::Short(0), queue: 3 });
        assert_eq!([22, 24, 26, 28].map(|at| io.word(at, 2)), [3, 16, 0xffff, 1]);
        assert_eq!([32, 36].map(|at| io.word(at, 4)), [0x3456_7000, 0x12]);
        let io = bank(offers);
        let device = Device::begin(&io, MMIO, 0, 0).unwrap();
        let bell = device.add_queue(&io, 3, &layout, 0x12_3456_7000, None).unwrap();
        assert_eq!(bell, Doorbell { at: Bell::Long(0x50), queue: 3 });
        assert_eq!([0x30, 0x38, 0x44, 0x80, 0x84].map(|at| io.word(at, 4)), [3, 16, 1, 0x3456_7000, 0x12]);
    }

    #[test]
    fn what_a_device_denies_is_said() {
        let begin = |needed, answer| Device::begin(&bank(answer), pci(0), needed, 0).unwrap_err();
        assert_eq!(begin(INDIRECT, offers), Refused("feature-missing"));
        assert_eq!(begin(0, |_, _, value| value), Refused("feature-missing"), "a legacy device");
        let denies = |bank: &Bank, at, value| if at == 20 { value & !8 } else { offers(bank, at, value) };
        assert_eq!(begin(0, denies), Refused("features-refused"));
        assert_eq!(
            begin(0, |_, at, value| if at == 20 { 1 } else { value }),
            Refused("device-does-not-reset")
        );
        let io = bank(offers);
        let layout = Layout::new(16, 256, 1, Options::default()).unwrap();
        let device = Device::begin(&io, pci(0), 0, 0).unwrap();
        let refused = device.add_queue(&io, 0, &layout, 0, Some((0, 32))).unwrap_err();
        assert_eq!(refused, Refused("no-msi-x"));
        let io = bank(|bank, at, value| if at == 26 { 0xffff } else { offers(bank, at, value) });
        let device = Device::begin(&io, pci(2), 0, 0).unwrap();
        let refused = device.add_queue(&io, 0, &layout, 0, Some((0, 32))).unwrap_err();
        assert_eq!(refused, Refused("vector-refused"));
        let io = bank(|bank, at, value| if at == 20 { value | 64 } else { offers(bank, at, value) });
        let device = Device { place: pci(0), features: 0 };
        assert_eq!(device.start(&io), Err(Refused("device-needs-reset")));
    }
}
