//! Configuration space of one function, in memory that the guest reads without an exit.
//!
//! Loads never come here where the machine maps the page as a read-only slot, so the page always
//! holds what a load must see; only stores exit, and only to the bits that are writable.

use std::sync::Arc;

use vm_memory::mmap::MmapRegion;
use vm_memory::{Bytes, VolatileMemory};

/// Bytes of configuration space in ECAM (PCI Express 6.0 §7.2.2).
pub const PAGE: usize = 4096;
/// The part in which anything is writable: the header and the capabilities of PCI.
const WRITABLE: usize = 256;

/// Registers of the type 0 header (PCI Local Bus 3.0 §6.1).
pub const VENDOR: usize = 0x00;
pub const COMMAND: usize = 0x04;
pub const STATUS: usize = 0x06;
pub const REVISION: usize = 0x08;
pub const BAR0: usize = 0x10;
pub const BAR2: usize = 0x18;
pub const SUBSYSTEM: usize = 0x2c;
pub const CAPABILITIES: usize = 0x34;
pub const INTERRUPT_LINE: usize = 0x3c;
/// `command`: the function answers to its I/O BARs, and to its memory BARs.
pub const COMMAND_IO: u16 = 1;
pub const COMMAND_MEMORY: u16 = 2;
const COMMAND_MASTER: u16 = 4;
/// Where the first capability goes.
const FIRST: usize = 0x40;

/// Who made a function and what it is.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    pub vendor: u16,
    pub device: u16,
    pub revision: u8,
    /// Class, subclass, interface.
    pub class: u32,
    pub subsystem: (u16, u16),
}

/// One page of configuration space.
pub struct ConfigSpace {
    pages: Arc<MmapRegion<()>>,
    base: usize,
    writable: [u8; WRITABLE],
    /// The byte that points to the next capability, and where that goes.
    link: usize,
    free: usize,
}

impl ConfigSpace {
    /// The page at `base` of `pages`, with a type 0 header and no BAR.
    pub fn new(pages: Arc<MmapRegion<()>>, base: usize, identity: Identity) -> ConfigSpace {
        let mut space = ConfigSpace { pages, base, writable: [0; WRITABLE], link: CAPABILITIES, free: FIRST };
        space.set(VENDOR, &identity.vendor.to_le_bytes());
        space.set(VENDOR + 2, &identity.device.to_le_bytes());
        space.set(REVISION, &(identity.class << 8 | u32::from(identity.revision)).to_le_bytes());
        space.set(SUBSYSTEM, &identity.subsystem.0.to_le_bytes());
        space.set(SUBSYSTEM + 2, &identity.subsystem.1.to_le_bytes());
        space.allow(COMMAND, &(COMMAND_MEMORY | COMMAND_MASTER).to_le_bytes());
        space.allow(INTERRUPT_LINE, &[0xff]);
        space
    }

    /// Makes BAR 0 a 64-bit memory BAR of `size` bytes, a power of two, at `address`, and enables it.
    pub fn add_bar(&mut self, size: u64, address: u64) {
        debug_assert!(size.is_power_of_two() && size >= 16 && address.is_multiple_of(size));
        // §6.2.5.1: memory, 64 bits wide, not prefetchable.
        self.set(BAR0, &(address | 0b100).to_le_bytes());
        self.allow(BAR0, &(!(size - 1)).to_le_bytes());
        self.decode(COMMAND_MEMORY);
    }

    /// Makes BAR 2 an I/O BAR of `size` ports, a power of two, at `port`, and enables it.
    pub fn add_io_bar(&mut self, size: u16, port: u16) {
        debug_assert!(size.is_power_of_two() && size >= 4 && port.is_multiple_of(size));
        // §6.2.5.1: I/O, whose addresses have 16 bits here.
        self.set(BAR2, &(u32::from(port) | 1).to_le_bytes());
        self.allow(BAR2, &u32::from(!(size - 1)).to_le_bytes());
        self.decode(COMMAND_IO);
    }

    /// Lets the driver turn decoding of these BARs on and off, and turns it on.
    fn decode(&mut self, kind: u16) {
        let on = u16::from_le_bytes(self.bytes(COMMAND)) | kind;
        self.set(COMMAND, &on.to_le_bytes());
        self.allow(COMMAND, &(on | COMMAND_MASTER).to_le_bytes());
    }

    /// Appends a capability: `body` follows its ID and link. Returns where it starts.
    pub fn add_capability(&mut self, id: u8, body: &[u8], writable: &[u8]) -> usize {
        let at = self.free;
        let link = self.link;
        self.set(link, &[at as u8]);
        self.set(at, &[id, 0]);
        self.set(at + 2, body);
        self.allow(at + 2, writable);
        self.set(STATUS, &0x10_u16.to_le_bytes());
        self.link = at + 1;
        self.free = (at + 2 + body.len()).next_multiple_of(4);
        at
    }

    /// Where BAR 0 is, if the function answers to it.
    pub fn bar(&self) -> Option<u64> {
        let command = u16::from_le_bytes(self.bytes(COMMAND));
        (command & COMMAND_MEMORY != 0).then(|| u64::from_le_bytes(self.bytes(BAR0)) & !0xf)
    }

    /// Where BAR 2 is, if the function answers to it.
    pub fn io_bar(&self) -> Option<u16> {
        let command = u16::from_le_bytes(self.bytes(COMMAND));
        (command & COMMAND_IO != 0).then(|| u16::from_le_bytes(self.bytes(BAR2)) & !3)
    }

    /// `N` bytes at `offset`, all inside the page.
    pub fn bytes<const N: usize>(&self, offset: usize) -> [u8; N] {
        let mut data = [0; N];
        self.read(offset, &mut data);
        data
    }

    /// A load: what crosses the end of the page reads as ones.
    pub fn read(&self, offset: usize, data: &mut [u8]) {
        if offset + data.len() <= PAGE {
            // Inside the region, by the line above.
            let _ = self.pages.as_volatile_slice().read_slice(data, self.base + offset);
        }
    }

    /// Writes any bits, as the function itself.
    pub fn set(&mut self, offset: usize, data: &[u8]) {
        if offset + data.len() <= PAGE {
            // As above.
            let _ = self.pages.as_volatile_slice().write_slice(data, self.base + offset);
        }
    }

    fn allow(&mut self, offset: usize, mask: &[u8]) {
        self.writable[offset..offset + mask.len()].copy_from_slice(mask);
    }

    /// A store of the guest: only writable bits change.
    pub fn write(&mut self, offset: usize, data: &[u8]) {
        for (at, &byte) in (offset..).zip(data).take_while(|&(at, _)| at < WRITABLE) {
            let [old] = self.bytes(at);
            let mask = self.writable[at];
            self.set(at, &[old & !mask | byte & mask]);
        }
    }
}
