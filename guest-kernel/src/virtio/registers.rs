//! Registers of devices and memory shared with them, so that what is done with them runs on any host.

/// Loads and stores at physical addresses where no memory is, and at ports.
pub trait Registers {
    fn load8(&self, address: usize) -> u8;
    fn load16(&self, address: usize) -> u16;
    fn load32(&self, address: usize) -> u32;
    fn store8(&self, address: usize, value: u8);
    fn store16(&self, address: usize, value: u16);
    fn store32(&self, address: usize, value: u32);
    /// To a port.
    fn out16(&self, port: u16, value: u16);
}

/// Memory that a device reads and writes too. Loads acquire, stores release; those beyond its end load
/// 0 and store nothing.
pub trait Shared {
    /// Where the device finds it.
    fn address(&self) -> u64;
    fn load16(&self, at: usize) -> u16;
    fn load32(&self, at: usize) -> u32;
    fn store16(&self, at: usize, value: u16);
    fn store64(&self, at: usize, value: u64);
}
