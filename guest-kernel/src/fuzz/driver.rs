//! A device that lies, on either bus and in its ring.

use std::cell::RefCell;
use std::{mem, vec};

use super::MAPPED;
use crate::virtio::Refused;
use crate::virtio::device::{self, BLK, Buses, Device, EVENT_IDX, INDIRECT};
use crate::virtio::mmio::Pages;
use crate::virtio::pci::PORTS;
use crate::virtio::queue::{Layout, Queue};
use crate::virtio::registers::{Registers, Shared};
use crate::virtio::testing::Ram;

/// Registers of a device that says what comes next. Its configuration space stays as it is; there are no
/// others.
struct Liar<'d> {
    configuration: &'d [u8],
    next: RefCell<&'d [u8]>,
}

const ECAM: usize = 0xb000_0000;
const CONFIGURATION: usize = 256;

impl Liar<'_> {
    fn say(&self, address: usize, len: usize) -> u32 {
        assert!(address.is_multiple_of(len) && address <= MAPPED - len, "{len} bytes at {address:#x}");
        if let Some(at) = address.checked_sub(ECAM).filter(|at| *at < 1 << 20) {
            let there = self.configuration.get(at..at + len).unwrap_or(&[0xff; 4][..len]);
            return there.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
        }
        let mut next = self.next.borrow_mut();
        let (said, rest) = next.split_at(len.min(next.len()));
        *next = rest;
        said.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte))
    }
}

impl Registers for Liar<'_> {
    fn load8(&self, address: usize) -> u8 {
        self.say(address, 1) as u8
    }
    fn load16(&self, address: usize) -> u16 {
        self.say(address, 2) as u16
    }
    fn load32(&self, address: usize) -> u32 {
        self.say(address, 4)
    }
    fn out16(&self, port: u16, _: u16) {
        assert!(PORTS.contains(&port), "{port:#x}");
    }
    fn store8(&self, address: usize, _: u8) {
        assert!(address < MAPPED, "{address:#x}");
    }
    fn store16(&self, address: usize, _: u16) {
        assert!(address <= MAPPED - 2, "{address:#x}");
    }
    fn store32(&self, address: usize, _: u32) {
        assert!(address <= MAPPED - 4, "{address:#x}");
    }
}

/// A device whose bus the first byte says; then its configuration space, what its registers say one after the
/// other, and what happens in its ring.
pub fn driver(data: &[u8]) {
    let Some((&[how], data)) = data.split_first_chunk() else { return };
    let (configuration, next) = data.split_at(CONFIGURATION.min(data.len()));
    let io = Liar { configuration, next: RefCell::new(next) };
    let buses = match how & 1 {
        0 => Buses { ecam: ECAM, pages: Pages::default() },
        _ => Buses { ecam: 0, pages: Pages::new(Default::default(), "virtio_mmio.device=512@0xfeb00000:5") },
    };
    // How it ended is all the same.
    let _ = drive(&io, &buses, usize::from(how >> 1 & 3) + 1);
}

fn drive(io: &Liar<'_>, buses: &Buses, parts: usize) -> Result<(), Refused> {
    let place = device::find(io, buses, BLK, 0)?;
    let device = Device::begin(io, place, 0, INDIRECT | EVENT_IDX)?;
    let layout = Layout::new(device.queue_size(io, 0), 256, parts, device.rings())?;
    // What lies beyond its end panics.
    let ram = Ram::new(layout.bytes);
    let mut queue = Queue::new(ram.clone(), layout);
    let bell = device.add_queue(io, 0, &layout, ram.address(), Some((0, 32)))?;
    device.start(io)?;
    device.config64(io, 0);
    let mut offered = vec![false; queue.slots()];
    while let Some((&[what, which, byte], rest)) = { *io.next.borrow() }.split_first_chunk() {
        *io.next.borrow_mut() = rest;
        let slot = usize::from(which);
        match what & 7 {
            0 => {
                let free = offered.get(slot) == Some(&false);
                assert_eq!(queue.offer(slot), free);
                offered.iter_mut().skip(slot).take(1).for_each(|offered| *offered = true);
            }
            1 => {
                if let Some((slot, _)) = queue.take()? {
                    assert!(mem::take(&mut offered[slot]), "{slot} was not offered");
                }
            }
            2 => queue.describe(slot, usize::from(byte & 7), u64::from(byte) << 12, 512, byte & 8 != 0),
            3 => {
                queue.listen();
                device.acknowledge(io);
            }
            4 => queue.hush(),
            5 => {
                if queue.wants_kick().1 {
                    bell.ring(io);
                }
            }
            // The device stores, anywhere.
            6 => ram.store16((slot << 4 | usize::from(what >> 4)) << 1 & (layout.bytes - 2), byte.into()),
            // It gives something back.
            _ => {
                let [_, _, used] = layout.addresses(0).map(|part| part as usize);
                let index = ram.load16(used + 2);
                ram.store64(used + 4 + 8 * (usize::from(index) & (layout.size - 1)), slot as u64);
                ram.store16(used + 2, index.wrapping_add(1));
            }
        }
    }
    device.reset(io)
}
