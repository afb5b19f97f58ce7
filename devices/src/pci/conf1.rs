//! Configuration mechanism #1 (PCI Local Bus 3.0 §3.2.2.3.2) of a bus with nothing on it but its host
//! bridge, for machines without a PCI device.
//!
//! A Linux that finds no way to configuration space says so in an error line, which a serial console
//! prints at two exits a byte; this is seven exits and a quiet kernel. Machines with PCI devices have
//! ECAM, and must not have this: Linux would prefer it, at two exits an access.

use crate::bus::{Effect, Registers};

/// CONFIG_ADDRESS and CONFIG_DATA, from port 0xcf8 on.
pub const PORT: u64 = 0xcf8;
pub const LEN: u64 = 8;
const DATA: u64 = 4;

/// Enable bit, bus, device and function of CONFIG_ADDRESS.
const SELECTED: u32 = 0xffff_ff00;
/// Enabled, and the host bridge: bus 0, device 0, function 0.
const HOST_BRIDGE: u32 = 0x8000_0000;

/// Vendor and device, and class with revision, as [`super::function::HostBridge`] has them.
const IDENTITY: u32 = 0x0008_1b36;
const CLASS: u32 = 0x0600_0000;

/// The two registers.
#[derive(Default)]
pub struct Conf1 {
    address: u32,
}

impl Conf1 {
    /// The 32-bit register of configuration space that is selected.
    fn selected(&self) -> u32 {
        match (self.address & SELECTED, self.address & 0xfc) {
            (HOST_BRIDGE, 0x00) => IDENTITY,
            (HOST_BRIDGE, 0x08) => CLASS,
            (HOST_BRIDGE, _) => 0,
            _ => u32::MAX,
        }
    }
}

impl Registers for Conf1 {
    fn name(&self) -> String {
        "pci-conf1".into()
    }

    fn register(&self, offset: u64, _: bool) -> &'static str {
        if offset < DATA { "CONFIG_ADDRESS" } else { "CONFIG_DATA" }
    }

    fn read(&mut self, offset: u64, data: &mut [u8]) {
        let (value, at) = match offset.checked_sub(DATA) {
            Some(at) => (self.selected(), at),
            None => (self.address, offset),
        };
        for (to, from) in data.iter_mut().zip(value.to_le_bytes().into_iter().skip(at as usize)) {
            *to = from;
        }
    }

    /// Only a whole store changes the address, and nothing behind it can be changed.
    fn write(&mut self, offset: u64, data: &[u8]) -> Effect {
        if let (0, Ok(bytes)) = (offset, data.try_into()) {
            self.address = u32::from_le_bytes(bytes);
        }
        Effect::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<const N: usize>(conf1: &mut Conf1, offset: u64) -> [u8; N] {
        let mut data = [0xff; N];
        conf1.read(offset, &mut data);
        data
    }

    #[test]
    fn linux_finds_it_and_a_host_bridge_and_nothing_else() {
        let mut conf1 = Conf1::default();
        conf1.write(3, &[1]);
        assert_eq!(read(&mut conf1, 0), [0; 4]);
        conf1.write(0, &0x8000_0008_u32.to_le_bytes());
        assert_eq!(read(&mut conf1, 0), 0x8000_0008_u32.to_le_bytes());
        assert_eq!(read(&mut conf1, DATA + 2), [0x00, 0x06]);
        conf1.write(0, &0x8000_0800_u32.to_le_bytes());
        conf1.write(DATA, &[0; 4]);
        assert_eq!(read(&mut conf1, DATA), [0xff; 4]);
        assert_eq!(read(&mut conf1, 7), [0xff; 8]);
    }
}
