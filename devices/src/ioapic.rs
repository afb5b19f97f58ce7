//! An IOAPIC as small as the machine needs (Intel 82093AA). KVM's own has 24 pins, and Linux sets up
//! each one with some ten register accesses, all exits; this one has as many pins as there are wires,
//! and none at all where every device has MSI.
//!
//! Each unmasked pin is a route from an irqfd to an MSI. Pins are edge-triggered, so an interrupt never
//! returns to userspace; a pin that the guest sets to level works as an edge.

use crate::bus::{Effect, Registers};
use crate::msi::{Message, Routes};

/// Register window: index at 0x00, data at 0x10.
const IOREGSEL: u64 = 0x00;
const IOWIN: u64 = 0x10;

const ID: u8 = 0x00;
const VERSION: u8 = 0x01;
const ARBITRATION: u8 = 0x02;
const REDIRECTION: u8 = 0x10;
/// Version 0x11 has no EOI register.
const VERSION_VALUE: u32 = 0x11;

/// Bits of a redirection entry.
const MASKED: u64 = 1 << 16;
/// Delivery status and remote IRR are the chip's own.
const READ_ONLY: u64 = 1 << 12 | 1 << 14;

/// The chip.
pub struct Ioapic {
    select: u8,
    id: u32,
    entries: Vec<u64>,
    routes: Box<dyn Routes>,
}

impl Ioapic {
    /// `pins` wires, at most 240; `routes` connects them.
    pub fn new(pins: u8, routes: Box<dyn Routes>) -> Ioapic {
        Ioapic { select: 0, id: 0, entries: vec![MASKED; usize::from(pins)], routes }
    }

    fn load(&self) -> u32 {
        match self.select {
            ID | ARBITRATION => self.id,
            VERSION => VERSION_VALUE | (self.entries.len() as u32).saturating_sub(1) << 16,
            _ => self.entry().map_or(u32::MAX, |(pin, shift)| (self.entries[pin] >> shift) as u32),
        }
    }

    fn store(&mut self, value: u32) {
        if self.select == ID {
            self.id = value & 0x0f00_0000;
        }
        let Some((pin, shift)) = self.entry() else { return };
        let old = self.entries[pin];
        let new = old & !(0xffff_ffff << shift) | u64::from(value) << shift;
        let new = new & !READ_ONLY | old & READ_ONLY;
        self.entries[pin] = new;
        let message = |entry: u64| (entry & MASKED == 0).then(|| msi(entry));
        if message(old) != message(new) {
            self.routes.route(pin as u32, message(new));
        }
    }

    /// Pin and half of the redirection entry that is selected.
    fn entry(&self) -> Option<(usize, u32)> {
        let at = self.select.checked_sub(REDIRECTION)?;
        let pin = usize::from(at / 2);
        (pin < self.entries.len()).then_some((pin, u32::from(at % 2) * 32))
    }
}

/// The message that a redirection entry stands for: the fields are the same, in other places.
fn msi(entry: u64) -> Message {
    let (vector, delivery, logical, destination) =
        (entry & 0xff, entry >> 8 & 7, entry >> 11 & 1, entry >> 56);
    Message { address: 0xfee0_0000 | destination << 12 | logical << 2, data: (delivery << 8 | vector) as u32 }
}

impl Registers for Ioapic {
    fn name(&self) -> String {
        "ioapic".into()
    }

    fn register(&self, offset: u64, _: bool) -> &'static str {
        match offset {
            IOREGSEL => "IOREGSEL",
            IOWIN => match self.select {
                ID => "IOAPICID",
                VERSION => "IOAPICVER",
                ARBITRATION => "IOAPICARB",
                _ => "IOREDTBL",
            },
            _ => "reserved",
        }
    }

    fn read(&mut self, offset: u64, data: &mut [u8]) {
        let value = match offset {
            IOREGSEL => u32::from(self.select),
            IOWIN => self.load(),
            _ => return,
        };
        for (to, from) in data.iter_mut().zip(value.to_le_bytes()) {
            *to = from;
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Effect {
        let mut value = [0; 4];
        for (to, from) in value.iter_mut().zip(data) {
            *to = *from;
        }
        match offset {
            IOREGSEL => self.select = value[0],
            IOWIN => self.store(u32::from_le_bytes(value)),
            _ => {}
        }
        Effect::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    type Log = Arc<Mutex<Vec<(u32, Option<Message>)>>>;

    struct Wires(Log);

    impl Routes for Wires {
        fn route(&mut self, line: u32, message: Option<Message>) {
            self.0.lock().unwrap().push((line, message));
        }
    }

    fn chip(pins: u8) -> (Ioapic, Log) {
        let log = Log::default();
        (Ioapic::new(pins, Box::new(Wires(log.clone()))), log)
    }

    fn set(chip: &mut Ioapic, register: u8, value: u32) {
        chip.write(IOREGSEL, &[register]);
        chip.write(IOWIN, &value.to_le_bytes());
    }

    fn get(chip: &mut Ioapic, register: u8) -> u32 {
        chip.write(IOREGSEL, &[register]);
        let mut value = [0; 4];
        chip.read(IOWIN, &mut value);
        u32::from_le_bytes(value)
    }

    #[test]
    fn unmasking_routes_and_masking_takes_away() {
        let (mut chip, log) = chip(5);
        assert_eq!(get(&mut chip, VERSION) >> 16, 4);
        set(&mut chip, 0x19, 2 << 24);
        set(&mut chip, 0x18, 0x31);
        set(&mut chip, 0x18, 0x31);
        set(&mut chip, 0x18, 0x31 | MASKED as u32);
        let message = Message { address: 0xfee0_2000, data: 0x31 };
        assert_eq!(*log.lock().unwrap(), [(4, Some(message)), (4, None)]);
    }

    #[test]
    fn odd_accesses_change_nothing() {
        let (mut chip, log) = chip(1);
        set(&mut chip, 0x12, 0x31);
        set(&mut chip, 0xff, 0);
        chip.write(0x4, &[0; 8]);
        chip.write(IOWIN, &[]);
        assert_eq!(get(&mut chip, 0x12), u32::MAX);
        assert!(log.lock().unwrap().is_empty());
    }
}
