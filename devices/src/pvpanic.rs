//! pvpanic: one byte by which a guest kernel says that it has panicked (QEMU docs/specs/pvpanic).

use abi::port::{PVPANIC_CRASH_LOADED, PVPANIC_PANICKED};

use crate::bus::{Effect, End, Registers};

/// The event register, at [`abi::port::PVPANIC`], one byte long.
pub struct PvPanic;

impl Registers for PvPanic {
    fn name(&self) -> String {
        "pvpanic".into()
    }

    fn register(&self, _offset: u64, _write: bool) -> &'static str {
        "EVENT"
    }

    /// The events that a guest may report.
    fn read(&mut self, _offset: u64, data: &mut [u8]) {
        if let Some(byte) = data.first_mut() {
            *byte = PVPANIC_PANICKED | PVPANIC_CRASH_LOADED;
        }
    }

    /// A guest whose crash kernel takes over is not at its end yet.
    fn write(&mut self, _offset: u64, data: &[u8]) -> Effect {
        match data.first() {
            Some(event) if event & PVPANIC_PANICKED != 0 => Effect::End(End::Panic),
            _ => Effect::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_and_a_crash_kernel_goes_on() {
        assert_eq!(PvPanic.write(0, &[PVPANIC_PANICKED]), Effect::End(End::Panic));
        for data in [&[PVPANIC_CRASH_LOADED][..], &[0, PVPANIC_PANICKED], &[]] {
            assert_eq!(PvPanic.write(0, data), Effect::None);
        }
    }

    #[test]
    fn it_says_what_it_supports() {
        let mut word = [0xff; 2];
        PvPanic.read(0, &mut word);
        assert_eq!(word, [3, 0xff]);
        PvPanic.read(0, &mut []);
    }
}
