//! A virtio device as a PCI function (virtio 1.2 §4.1), found by ECAM on bus 0. Its loads of
//! configuration space cost no exit where the monitor keeps that in memory.

use super::Refused;
use super::registers::Registers;

/// Bytes of configuration space from a slot to the next, and slots of a bus.
const SLOT: usize = 8 * 4096;
const SLOTS: usize = 32;
/// Offsets of a type 0 header (PCI Local Bus 3.0 §6.1).
const COMMAND: usize = 0x04;
const STATUS: usize = 0x06;
const BARS: usize = 0x10;
const CAPABILITIES: usize = 0x34;
/// Decoding of ports and of memory, and bus mastering.
const COMMAND_ON: u16 = 1 << 0 | 1 << 1 | 1 << 2;
const HAS_CAPABILITIES: u16 = 1 << 4;

/// Capability IDs, and `cfg_type` of virtio's (§4.1.4).
const VENDOR_SPECIFIC: u8 = 0x09;
const MSI_X: u8 = 0x11;
const COMMON: u8 = 1;
const NOTIFY: u8 = 2;
const DEVICE: u8 = 4;

/// virtio's vendor ID, and its modern device IDs less the device type (§4.1.2).
const VENDOR: u16 = 0x1af4;
const MODERN: u16 = 0x1040;
/// More capabilities than fit into configuration space.
const MOST_CAPABILITIES: usize = 48;
/// What is mapped, whoever made the page tables; and room for the longest part, a table of 2048 vectors.
const MAPPED: u64 = 4 << 30;
const PART: u64 = 16 * 2048;
/// Ports of devices: those of the machine itself lie below, and ring 3 may use none above.
pub const PORTS: core::ops::Range<u16> = 0x800..0x1000;
/// MSI-X message control: enable (§6.8.2.3).
const MSIX_ENABLE: u16 = 1 << 15;
/// Where an interrupt message is stored (SDM vol. 3 §11.11.1).
const MESSAGE: u32 = 0xfee0_0000;

/// Where doorbells begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notify {
    Memory(usize),
    Port(u16),
}

impl Default for Notify {
    fn default() -> Notify {
        Notify::Memory(0)
    }
}

/// A function with its parts found; those in memory are addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Function {
    /// Its configuration space.
    pub config: usize,
    pub common: usize,
    pub(super) device: usize,
    pub(super) notify: Notify,
    pub(super) notify_step: usize,
    /// The MSI-X table, its vectors, and its message control in configuration space.
    pub table: usize,
    pub vectors: u16,
    pub control: usize,
}

/// The function of bus 0 that is the `index`th of this virtio type, decoding on.
pub fn find(io: &dyn Registers, ecam: usize, kind: u16, index: usize) -> Result<Function, Refused> {
    let is_one = |at: &usize| io.load16(*at) == VENDOR && io.load16(*at + 2) == MODERN + kind;
    let slots = (ecam..).step_by(SLOT).take(SLOTS);
    let at = slots.filter(is_one).nth(index).ok_or(Refused("no-such-device"))?;
    let function = read(io, at)?;
    io.store16(at + COMMAND, io.load16(at + COMMAND) | COMMAND_ON);
    function.enable_msix(io);
    Ok(function)
}

/// Walks the capabilities of the function whose configuration space is at `at`.
fn read(io: &dyn Registers, at: usize) -> Result<Function, Refused> {
    let mut function = Function { config: at, ..Function::default() };
    let mut next =
        if io.load16(at + STATUS) & HAS_CAPABILITIES == 0 { 0 } else { pointer(io, at + CAPABILITIES) };
    for _ in 0..MOST_CAPABILITIES {
        if next == 0 {
            break;
        }
        let capability = at + next;
        match io.load8(capability) {
            MSI_X => {
                let table = io.load32(capability + 4);
                function.table = part(io, at, table & 7, table & !7)?;
                function.control = capability + 2;
                function.vectors = (io.load16(function.control) & 0x7ff) + 1;
            }
            VENDOR_SPECIFIC => {
                let (index, offset) = (u32::from(io.load8(capability + 4)), io.load32(capability + 8));
                let place = || part(io, at, index, offset);
                // The first of each kind is the one that the device likes best (§4.1.4.1).
                match io.load8(capability + 3) {
                    COMMON if function.common == 0 => function.common = place()?,
                    DEVICE if function.device == 0 => function.device = place()?,
                    NOTIFY if function.notify == Notify::default() => {
                        function.notify = match port(io, at, index, offset) {
                            Some(port) => Notify::Port(port?),
                            None => Notify::Memory(place()?),
                        };
                        function.notify_step = io.load32(capability + 16) as usize;
                    }
                    _ => {}
                }
            }
            _ => {}
        }
        next = pointer(io, capability + 1);
    }
    match function.common == 0 || function.notify == Notify::default() || function.device == 0 {
        true => Err(Refused("capability-missing")),
        false => Ok(function),
    }
}

/// A pointer to a capability; below the header's end there is none.
fn pointer(io: &dyn Registers, at: usize) -> usize {
    match usize::from(io.load8(at) & !3) {
        below if below < 0x40 => 0,
        pointer => pointer,
    }
}

/// The address of what lies in memory BAR `index`.
fn part(io: &dyn Registers, at: usize, index: u32, offset: u32) -> Result<usize, Refused> {
    match bar(io, at, index)? + u64::from(offset) {
        beyond if beyond > MAPPED - PART => Err(Refused("bar-out-of-reach")),
        // §4.1.4.3.1, §4.1.4.6.1.
        askew if !askew.is_multiple_of(4) => Err(Refused("capability-is-askew")),
        address => Ok(address as usize),
    }
}

/// The port of what lies in BAR `index`, if that is one of ports.
fn port(io: &dyn Registers, at: usize, index: u32, offset: u32) -> Option<Result<u16, Refused>> {
    let bar = if index > 5 { 0 } else { io.load32(at + BARS + 4 * index as usize) };
    let port = u64::from(bar & !3) + u64::from(offset);
    let port = u16::try_from(port).ok().filter(|port| PORTS.contains(port));
    (bar & 1 == 1).then(|| port.ok_or(Refused("bar-out-of-reach")))
}

fn bar(io: &dyn Registers, at: usize, index: u32) -> Result<u64, Refused> {
    if index > 5 {
        return Err(Refused("no-such-bar"));
    }
    let at = at + BARS + 4 * index as usize;
    let low = io.load32(at);
    let is_64 = low & 0b110 == 0b100 && index < 5;
    let high = if is_64 { u64::from(io.load32(at + 4)) << 32 } else { 0 };
    let address = high | u64::from(low & !0xf);
    match low & 1 == 1 || address == 0 || address >= MAPPED {
        true => Err(Refused("bar-out-of-reach")),
        false => Ok(address),
    }
}

impl Function {
    /// The doorbell of a queue with this `queue_notify_off` (§4.1.4.4).
    pub fn doorbell(&self, offset: u16) -> Result<Notify, Refused> {
        let beyond = Err(Refused("doorbell-out-of-reach"));
        let further = usize::from(offset) * self.notify_step;
        match self.notify {
            Notify::Port(first) => match u16::try_from(usize::from(first) + further) {
                Ok(port) if PORTS.contains(&port) => Ok(Notify::Port(port)),
                _ => beyond,
            },
            Notify::Memory(first) => match first + further {
                far if far as u64 > MAPPED - PART => beyond,
                askew if !askew.is_multiple_of(2) => Err(Refused("doorbell-is-askew")),
                address => Ok(Notify::Memory(address)),
            },
        }
    }

    /// Turns MSI-X on, where it has that.
    pub fn enable_msix(&self, io: &dyn Registers) {
        if self.vectors > 0 {
            io.store16(self.control, MSIX_ENABLE);
        }
    }

    /// Routes an MSI-X vector to an interrupt vector of `cpu`, and unmasks it (§6.8.2.6).
    pub fn route(&self, io: &dyn Registers, vector: u16, cpu: usize, interrupt: u8) {
        let entry = self.table + 16 * usize::from(vector);
        for (word, value) in [MESSAGE | (cpu as u32) << 12, 0, interrupt.into(), 0].into_iter().enumerate() {
            io.store32(entry + 4 * word, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Bank;
    use super::*;

    /// Configuration space of slot 2 with virtio's capabilities, and MSI-X where wanted.
    fn bank(kind: u16, msix: bool) -> Bank {
        let bank = Bank::new(SLOTS * SLOT);
        let at = 2 * SLOT;
        bank.put(at, &[VENDOR.to_le_bytes(), (MODERN + kind).to_le_bytes()].concat());
        bank.put(at + STATUS, &[0x10, 0]);
        bank.put(at + BARS, &0xc000_0004u32.to_le_bytes());
        bank.put(at + CAPABILITIES, &[if msix { 0x40 } else { 0x50 }]);
        bank.put(at + 0x40, &[MSI_X, 0x50, 1, 0, 0, 0x10, 0, 0, 0, 0x18, 0, 0]);
        for (cap, next, kind, offset) in
            [(0x50, 0x60, COMMON, 0u32), (0x60, 0x74, NOTIFY, 0x2000), (0x74, 0, DEVICE, 0x800)]
        {
            bank.put(at + cap, &[VENDOR_SPECIFIC, next, 16, kind, 0]);
            bank.put(at + cap + 8, &offset.to_le_bytes());
        }
        bank.put(at + 0x70, &4u32.to_le_bytes());
        bank
    }

    #[test]
    fn a_function_is_found_by_its_type() {
        let bank = bank(2, true);
        let found = find(&bank, 0, 2, 0).unwrap();
        assert_eq!((found.common, found.device), (0xc000_0000, 0xc000_0800));
        let memory = |address| Ok(Notify::Memory(address));
        assert_eq!((found.doorbell(0), found.doorbell(3)), (memory(0xc000_2000), memory(0xc000_200c)));
        assert_eq!((found.table, found.vectors), (0xc000_1000, 2));
        let at = 2 * SLOT;
        assert_eq!((bank.word(at + COMMAND, 2), bank.word(at + 0x42, 2)), (7, 0x8000));
        assert_eq!(find(&bank, 0, 2, 1), Err(Refused("no-such-device")));
        assert_eq!(find(&bank, 0, 1, 0), Err(Refused("no-such-device")));
    }

    #[test]
    fn doorbells_may_be_ports() {
        let at = 2 * SLOT;
        let bank = bank(2, true);
        // BAR 2.
        bank.put(at + 0x64, &[2]);
        bank.put(at + 0x68, &4u32.to_le_bytes());
        bank.put(at + BARS + 8, &0x901u32.to_le_bytes());
        let found = find(&bank, 0, 2, 0).unwrap();
        let port = |port| Ok(Notify::Port(port));
        assert_eq!((found.doorbell(0), found.doorbell(3)), (port(0x904), port(0x910)));
        assert_eq!(found.doorbell(0x1c0), Err(Refused("doorbell-out-of-reach")));
        assert_eq!(found.doorbell(0xffff), Err(Refused("doorbell-out-of-reach")));
        for bar in [0x401u32, 0x1001, 0xfff1, 0x1_0901] {
            bank.put(at + BARS + 8, &bar.to_le_bytes());
            assert_eq!(find(&bank, 0, 2, 0), Err(Refused("bar-out-of-reach")), "{bar:#x}");
        }
    }

    #[test]
    fn what_is_missing_is_said() {
        assert_eq!(find(&bank(1, false), 0, 1, 0).unwrap().vectors, 0);
        let at = 2 * SLOT;
        for (place, bytes, why) in [
            (at + STATUS, [0], "capability-missing"),
            (at + 0x61, [0], "capability-missing"),
            (at + 0x61, [0x50], "capability-missing"), // a loop
            (at + 0x54, [7], "no-such-bar"),
            (at + 0x54, [1], "bar-out-of-reach"),
            (at + BARS + 4, [1], "bar-out-of-reach"),
            (at + BARS, [1], "bar-out-of-reach"),
            (at + 0x5b, [0x40], "bar-out-of-reach"), // behind its BAR, and all memory
            (at + 0x47, [0x40], "bar-out-of-reach"),
            (at + 0x58, [2], "capability-is-askew"),
        ] {
            let bank = bank(1, true);
            bank.put(place, &bytes);
            assert_eq!(find(&bank, 0, 1, 0), Err(Refused(why)), "{place:#x}");
        }
        let bank = bank(1, true);
        for (place, byte, why) in
            [(at + 0x73, 0x10, "doorbell-out-of-reach"), (at + 0x70, 5, "doorbell-is-askew")]
        {
            bank.put(place, &[byte]);
            assert_eq!(find(&bank, 0, 1, 0).unwrap().doorbell(5), Err(Refused(why)));
            bank.put(place, &[0]);
        }
    }
}
