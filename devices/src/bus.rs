//! Address → device and register, and their names for the ledger.
//!
//! A [`Bus`] is built once, before the first vCPU runs, and is read-only from then on: vCPU threads
//! share it without a lock and lock only the device that they touch. What moves at run time (PCI
//! BARs) moves inside one device that owns the whole window.

use std::sync::{Arc, Mutex, PoisonError};

use abi::mark::Mark;

/// How the guest asked its machine to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By the exit port, with this status.
    Exit(u8),
    /// ACPI S5.
    Shutdown,
    /// ACPI reset register.
    Reset,
    /// pvpanic.
    Panic,
}

/// What a register write asks of the machine, beyond the register itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: re-enter the guest.
    None,
    /// The machine ends.
    End(End),
    /// The guest tells how far it has come: a phase ends here.
    Mark(Mark),
}

/// A block of registers on a bus.
pub trait Registers: Send {
    /// The device as the report names it: `serial.0`, `blk.1`.
    fn name(&self) -> String;
    /// The register at `offset`, as its data sheet names it.
    fn register(&self, offset: u64, write: bool) -> &'static str;
    /// Device and register at `offset`; a window over several devices names the one that is there.
    fn describe(&self, offset: u64, write: bool) -> (String, &'static str) {
        (self.name(), self.register(offset, write))
    }
    /// A load. `data` comes in as all ones, what an absent register reads as.
    fn read(&mut self, offset: u64, data: &mut [u8]);
    /// A store.
    fn write(&mut self, offset: u64, data: &[u8]) -> Effect;
}

/// A device as vCPU threads share it.
pub type Shared<T = dyn Registers> = Arc<Mutex<T>>;

struct Slot {
    base: u64,
    len: u64,
    device: Shared,
}

/// An address space: port I/O or MMIO.
#[derive(Default)]
pub struct Bus {
    /// Sorted by base, without overlap.
    slots: Vec<Slot>,
}

/// Two devices claim the same address.
#[derive(Debug, thiserror::Error)]
#[error("{name} at {base:#x}, {len:#x} long, overlaps {other}")]
pub struct Overlap {
    name: String,
    base: u64,
    len: u64,
    other: String,
}

impl Bus {
    /// Puts `device` at `base..base + len`.
    pub fn attach(&mut self, base: u64, len: u64, device: Shared) -> Result<(), Overlap> {
        let at = self.slots.partition_point(|slot| slot.base < base);
        let before = at.checked_sub(1).map(|i| &self.slots[i]).filter(|slot| slot.base + slot.len > base);
        let after = self.slots.get(at).filter(|slot| base + len > slot.base);
        if let Some(other) = before.or(after) {
            let (name, other) = (lock(&device).name(), lock(&other.device).name());
            return Err(Overlap { name, base, len, other });
        }
        self.slots.insert(at, Slot { base, len, device });
        Ok(())
    }

    fn find(&self, address: u64) -> Option<(&Slot, u64)> {
        let at = self.slots.partition_point(|slot| slot.base <= address).checked_sub(1)?;
        let slot = &self.slots[at];
        let offset = address - slot.base;
        (offset < slot.len).then_some((slot, offset))
    }

    /// A load; an unclaimed address reads as all ones, as a floating bus does.
    pub fn read(&self, address: u64, data: &mut [u8]) {
        data.fill(0xff);
        if let Some((slot, offset)) = self.find(address) {
            lock(&slot.device).read(offset, data);
        }
    }

    /// A store; one to an unclaimed address is lost.
    pub fn write(&self, address: u64, data: &[u8]) -> Effect {
        self.find(address).map_or(Effect::None, |(slot, offset)| lock(&slot.device).write(offset, data))
    }

    /// Device and register at `address`, for the ledger; `None` where nothing is.
    pub fn describe(&self, address: u64, write: bool) -> Option<(String, &'static str)> {
        let (slot, offset) = self.find(address)?;
        Some(lock(&slot.device).describe(offset, write))
    }
}

/// A vCPU thread that panicked in a device has ended the machine already; the others may finish.
fn lock<T: ?Sized>(device: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    device.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Remembers the last byte stored, whatever the offset.
    struct Latch(&'static str, u8);

    impl Registers for Latch {
        fn name(&self) -> String {
            self.0.into()
        }
        fn register(&self, _: u64, write: bool) -> &'static str {
            if write { "SET" } else { "GET" }
        }
        fn read(&mut self, _: u64, data: &mut [u8]) {
            data[0] = self.1;
        }
        fn write(&mut self, _: u64, data: &[u8]) -> Effect {
            self.1 = data[0];
            Effect::None
        }
    }

    fn bus() -> Bus {
        let mut bus = Bus::default();
        bus.attach(0x100, 8, Arc::new(Mutex::new(Latch("a", 0)))).unwrap();
        bus.attach(0x108, 8, Arc::new(Mutex::new(Latch("b", 0)))).unwrap();
        bus
    }

    #[test]
    fn neighbours_keep_apart() {
        let bus = bus();
        bus.write(0x107, &[7]);
        bus.write(0x108, &[8]);
        let mut byte = [0];
        bus.read(0x100, &mut byte);
        assert_eq!(byte, [7]);
        bus.read(0x10f, &mut byte);
        assert_eq!(byte, [8]);
        assert_eq!(bus.describe(0x108, true), Some(("b".into(), "SET")));
    }

    #[test]
    fn nothing_there_reads_as_ones_and_swallows_stores() {
        let bus = bus();
        let mut word = [0; 4];
        bus.read(0x110, &mut word);
        assert_eq!(word, [0xff; 4]);
        assert_eq!(bus.write(0xff, &[0]), Effect::None);
        assert_eq!(bus.describe(0x110, false), None);
    }

    #[test]
    fn no_two_devices_at_one_address() {
        let mut bus = bus();
        for (base, len) in [(0xff, 2), (0x104, 1), (0x10f, 4), (0, 0x1000)] {
            let error = bus.attach(base, len, Arc::new(Mutex::new(Latch("c", 0)))).unwrap_err();
            assert!(error.to_string().starts_with("c at "), "{error}");
        }
    }
}
