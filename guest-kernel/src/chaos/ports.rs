//! Ports: of devices or of nobody, of every width, as single accesses and as strings.

use abi::port;

use super::storm::Storm;
use crate::arch::wild::Access;
use crate::arch::{io, wild};

/// Where something is, on a PC or here.
const KNOWN: [(u16, usize); 14] = [
    (port::COM1, 8),
    (port::EXIT, 16),
    (port::ACPI_SLEEP_CONTROL, 8),
    (CONFIG_ADDRESS, 8),
    (0x00, 0x10),
    (0x20, 2),
    (0x40, 4),
    (0x60, 5),
    (0x70, 2),
    (0x80, 0x10),
    (0xa0, 2),
    (0x4d0, 2),
    (0x2f8, 8),
    (0xb000, 0x40),
];
/// PCI configuration by ports (PCI Local Bus 3.0 §3.2.2.3.2).
const CONFIG_ADDRESS: u16 = 0xcf8;
/// A store that touches these would end the machine, here or on a PC.
const ENDS: [u16; 7] =
    [port::EXIT, port::ACPI_SLEEP_CONTROL, port::ACPI_RESET, port::PVPANIC, 0x64, 0x92, 0xcf9];

/// One access, or a string of them.
pub fn deed(storm: &mut Storm<'_>) {
    let random = &mut storm.random;
    let port = if random.once_in(4) {
        random.any() as u16
    } else {
        let (base, len) = random.of(&KNOWN);
        base + random.below(len) as u16
    };
    let width = random.of(&[1, 1, 2, 4]);
    let ends = ENDS.iter().any(|end| (port..port.saturating_add(4)).contains(end));
    let load = ends || random.once_in(2);
    let access = if random.once_in(8) { Access::Fill(random.below(64) as u8) } else { Access::Store };
    let value = match port {
        // What would be somewhere: a register of bus 0.
        CONFIG_ADDRESS => 1 << 31 | random.below(1 << 16) as u64,
        _ => random.value(),
    };
    wild::port(port, width, access, load, value);
}

/// The serial port is as it was, and a record begins with a line of its own.
pub fn calm() {
    const LINE_CONTROL: u16 = port::COM1 + 3;
    const INTERRUPT_ENABLE: u16 = port::COM1 + 1;
    // Its loop, where what is sent comes back.
    const MODEM_CONTROL: u16 = port::COM1 + 4;
    io::write(LINE_CONTROL, &[3]);
    io::write(INTERRUPT_ENABLE, &[0]);
    io::write(MODEM_CONTROL, &[0]);
    io::write(port::RECORD, b"\n");
}
