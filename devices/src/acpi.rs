//! The registers by which a guest under ACPI reduced hardware ends its machine (ACPI 6.5 §4.8.3.6,
//! §4.8.3.7).

use abi::port;

use crate::bus::{Effect, End, Registers};

/// Sleep type in the sleep control register.
const SLP_TYP_SHIFT: u8 = 2;
const SLP_TYP_MASK: u8 = 7;
/// "Do it now" in the sleep control register.
const SLP_EN: u8 = 1 << 5;

const CONTROL: u64 = 0;
const STATUS: u64 = (port::ACPI_SLEEP_STATUS - port::ACPI_SLEEP_CONTROL) as u64;
const RESET: u64 = (port::ACPI_RESET - port::ACPI_SLEEP_CONTROL) as u64;

/// Sleep control, sleep status and reset, at [`port::ACPI_SLEEP_CONTROL`].
pub struct Power;

impl Registers for Power {
    fn name(&self) -> String {
        "acpi".into()
    }

    fn register(&self, offset: u64, _write: bool) -> &'static str {
        match offset {
            CONTROL => "SLEEP_CONTROL",
            STATUS => "SLEEP_STATUS",
            RESET => "RESET",
            _ => "none",
        }
    }

    /// Nothing sleeps and nothing wakes: every register reads as zero.
    fn read(&mut self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Effect {
        for (offset, &value) in (offset..).zip(data) {
            match offset {
                CONTROL if value & SLP_EN != 0 && value >> SLP_TYP_SHIFT & SLP_TYP_MASK == port::ACPI_S5 => {
                    return Effect::End(End::Shutdown);
                }
                RESET if value == port::ACPI_RESET_VALUE => return Effect::End(End::Reset),
                _ => {}
            }
        }
        Effect::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S5_NOW: u8 = SLP_EN | port::ACPI_S5 << SLP_TYP_SHIFT;

    #[test]
    fn s5_ends_and_other_states_do_not() {
        assert_eq!(Power.write(CONTROL, &[S5_NOW]), Effect::End(End::Shutdown));
        // The type without the enable bit, S0 with it, and the wake status that Linux clears first.
        for (offset, value) in
            [(CONTROL, S5_NOW & !SLP_EN), (CONTROL, SLP_EN), (STATUS, 0x80), (STATUS, S5_NOW)]
        {
            assert_eq!(Power.write(offset, &[value]), Effect::None, "{offset} {value:#x}");
        }
    }

    #[test]
    fn reset_takes_its_value_only() {
        assert_eq!(Power.write(RESET, &[port::ACPI_RESET_VALUE]), Effect::End(End::Reset));
        assert_eq!(Power.write(RESET, &[0xfe]), Effect::None);
    }

    #[test]
    fn wide_stores_reach_the_register_that_they_cover() {
        assert_eq!(Power.write(CONTROL, &[0, 0, port::ACPI_RESET_VALUE, 0]), Effect::End(End::Reset));
        assert_eq!(Power.write(RESET + 1, &[port::ACPI_RESET_VALUE; 8]), Effect::None);
        assert_eq!(Power.write(CONTROL, &[]), Effect::None);
        let mut word = [0xff; 4];
        Power.read(CONTROL, &mut word);
        assert_eq!(word, [0; 4]);
    }
}
