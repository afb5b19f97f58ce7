//! Entrances for fuzzing what a loader, a disk, a device or the network may say to this kernel: bytes in, no
//! panic out. A fuzzer calls them ([`guest-kernel/fuzz`]), and the tests replay its corpus.
//!
//! - [`boot`]    our monitor's page, or PVH's start information and ACPI's tables
//! - [`tar`]     the root
//! - [`driver`]  a device that lies, on either bus and in its ring
//! - [`frames`]  what arrives

extern crate std;

use std::cell::RefCell;
use std::vec;

use abi::workload::Spec;

use crate::boot::{LONGEST, read};
use crate::net::frame::{self, ARP, End, HEADERS, Kind};
use crate::tar::{Files, Image};
use crate::virtio::device::{self, BLK, Buses, Device, EVENT_IDX, INDIRECT};
use crate::virtio::mmio::Pages;
use crate::virtio::queue::{Layout, Queue};
use crate::virtio::registers::{Registers, Shared};
use crate::virtio::testing::Ram;

/// What is mapped on any machine.
const MAPPED: usize = 4 << 30;
/// Where the information is, in memory that begins with the fuzzer's bytes.
const INFORMATION: usize = 0x100;

/// Memory with what a loader has left at [`INFORMATION`].
pub fn boot(data: &[u8]) {
    let mut memory = data.to_vec();
    memory.resize(memory.len().max(INFORMATION) + LONGEST, 0);
    let nothing = vec![0; LONGEST];
    let look = |at: usize, len: usize| {
        assert!(len <= LONGEST && at.checked_add(len).is_some_and(|end| end <= MAPPED), "{at:#x}, {len}");
        memory.get(at..at + len).unwrap_or(&nothing[..len])
    };
    let Some(boot) = read(INFORMATION, &look) else { return };
    Pages::new(boot.mmio, boot.command_line);
    abi::boot_info::workloads(boot.command_line).for_each(|workload| _ = Spec::parse(workload));
}

/// An image that is said to be longer or shorter than it is, and whose headers are summed up right, for no
/// fuzzer would.
struct Tape<'d> {
    bytes: u64,
    content: &'d [u8],
    sums: bool,
}

impl Image for Tape<'_> {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read(&mut self, at: u64, bytes: &mut [u8]) -> bool {
        assert!(
            at.checked_add(bytes.len() as u64).is_some_and(|end| end <= self.bytes),
            "read beyond its end"
        );
        let there = self.content.get(at as usize..).and_then(|rest| rest.get(..bytes.len()));
        let Some(there) = there else { return false };
        bytes.copy_from_slice(there);
        if self.sums && bytes.len() == 512 && bytes.iter().any(|byte| *byte != 0) {
            bytes[148..156].fill(b' ');
            let mut sum: u32 = bytes.iter().map(|byte| u32::from(*byte)).sum();
            for digit in bytes[148..154].iter_mut().rev() {
                *digit = b'0' + (sum & 7) as u8;
                sum >>= 3;
            }
        }
        true
    }
}

/// A tar image of a length that the first bytes say; all of its files are read.
pub fn tar(data: &[u8]) {
    let Some((&[how, blocks], content)) = data.split_first_chunk() else { return };
    let bytes = match how & 2 {
        0 => content.len() as u64,
        _ => 512 << (blocks & 63),
    };
    let mut tape = Tape { bytes, content, sums: how & 1 == 0 };
    let mut files = Files(&mut tape, 0);
    while let Ok(Some(file)) = files.take_next() {
        if files.read(file, |_| ()).is_err() {
            break;
        }
    }
}

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

fn drive(io: &Liar<'_>, buses: &Buses, parts: usize) -> Result<(), crate::virtio::Refused> {
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
                    assert!(core::mem::take(&mut offered[slot]), "{slot} was not offered");
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

/// Headers of frames, each with a length before it.
pub fn frames(mut data: &[u8]) {
    let own = End { mac: [2, 0, 0, 0, 0, 1], ip: [10, 0, 0, 1], port: 7 };
    while let Some((&[low, high], rest)) = data.split_first_chunk() {
        let Some((head, rest)) = rest.split_first_chunk::<HEADERS>() else { return };
        data = rest;
        let len = usize::from(u16::from_le_bytes([low, high]));
        if let Some((_, payload)) = frame::parse(head, len, own.ip) {
            assert!(payload.start == HEADERS && payload.start <= payload.end && payload.end <= len);
        }
        if let (Kind::Arp, Some(arp)) = (frame::kind(head), head.first_chunk::<ARP>()) {
            frame::hear(arp, &own);
        }
    }
}

/// What the fuzzer has found worth keeping, again.
#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::vec::Vec;

    #[test]
    fn the_corpus_of_the_fuzzer() {
        for (folder, target) in
            [("boot", boot as fn(&[u8])), ("tar", tar), ("driver", driver), ("frames", frames)]
        {
            let folder = format!("{}/fuzz/corpus/{folder}", env!("CARGO_MANIFEST_DIR"));
            let files: Vec<_> =
                std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
            assert!(!files.is_empty(), "{folder}");
            files.iter().for_each(|file| target(&std::fs::read(file).unwrap()));
        }
    }
}
