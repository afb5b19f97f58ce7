//! I/O ports of the machine. A port write works on every host class and from ring 3
//! (through the TSS bitmap, or `ioperm` under Linux), so it is the one doorbell of this ABI.

/// First serial port (16550A), eight registers.
pub const COM1: u16 = 0x3f8;
/// Registers of [`COM1`].
pub const COM1_LEN: u16 = 8;

/// Write a byte: the machine ends and the byte is its status (0 to 63).
pub const EXIT: u16 = 0x500;
/// Write 32 bits: a [`crate::mark::Mark`]. The monitor closes a phase and opens the next.
pub const MARK: u16 = 0x504;
/// Write bytes (`rep outsb`): the text of result records, each ended by a newline.
pub const RECORD: u16 = 0x508;
/// Registers from [`EXIT`] to the end of the test device.
pub const EXIT_LEN: u16 = 0x10;

/// ACPI sleep control register (ACPI 6.5 §4.8.3.7): SLP_TYP in bits 2..=4, SLP_EN is bit 5.
pub const ACPI_SLEEP_CONTROL: u16 = 0x600;
/// SLP_TYP of S5, soft off: what the DSDT's `_S5` says and the sleep control register takes.
pub const ACPI_S5: u8 = 5;
/// ACPI sleep status register (ACPI 6.5 §4.8.3.7).
pub const ACPI_SLEEP_STATUS: u16 = 0x601;
/// ACPI reset register (ACPI 6.5 §4.8.3.6); writing [`ACPI_RESET_VALUE`] resets.
pub const ACPI_RESET: u16 = 0x602;
/// The value that resets.
pub const ACPI_RESET_VALUE: u8 = 1;
/// Registers from [`ACPI_SLEEP_CONTROL`] on.
pub const ACPI_LEN: u16 = 4;

/// pvpanic (QEMU docs/specs/pvpanic): read the events supported, write the one that happened.
pub const PVPANIC: u16 = 0x604;
/// pvpanic event: the guest panicked.
pub const PVPANIC_PANICKED: u8 = 1;
/// pvpanic event: the guest panicked and a crash kernel takes over.
pub const PVPANIC_CRASH_LOADED: u8 = 2;
