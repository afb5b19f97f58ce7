//! Rings: brought up as a driver does or nearly so, then changed under the device while it works on them.

use super::storm::{ARENA, Storm};
use super::target::Target;
use crate::arch::cpu;
use crate::arch::device::Io;
use crate::arch::interrupts::WAKE;
use crate::virtio::Refused;
use crate::virtio::device::{BLK, Device, Doorbell, EVENT_IDX, INDIRECT};
use crate::virtio::queue::{Layout, Options};
use crate::virtio::registers::Shared;

/// Bytes of the arena for one ring, which is more than 256 entries take.
pub const ROOM: usize = 16 << 10;
const DESCRIPTOR: usize = 16;
/// Descriptor flags (virtio 1.2 §2.7.5).
const NEXT: u64 = 1;
const WRITE: u64 = 2;

/// One ring that was brought up.
#[derive(Clone, Copy)]
pub struct Ring {
    /// Index of its device.
    pub target: usize,
    kind: u16,
    size: usize,
    /// Where descriptors, available and used ring are in the arena.
    parts: [usize; 3],
    bell: Doorbell,
    /// Entries made available by those who keep to the rules.
    offered: u16,
}

impl Ring {
    pub fn kick(&self) {
        self.bell.ring(&Io);
    }
}

/// A device brought up, a request, or a word where it hurts.
pub fn deed(storm: &mut Storm<'_>) {
    let up = storm.rings.iter().flatten().count();
    let nth = storm.random.below(up);
    let ring = storm.rings.iter().enumerate().filter_map(|(slot, ring)| Some((slot, (*ring)?))).nth(nth);
    let (Some((slot, ring)), false) = (ring, storm.random.once_in(16)) else { return begin(storm) };
    match storm.random.below(16) {
        0 => descriptor(storm, &ring),
        1 => index(storm, &ring),
        2 => ring.kick(),
        3 => scribble(storm),
        _ => storm.rings[slot] = Some(request(storm, ring)),
    }
}

/// From reset to DRIVER_OK, with some of the features and the queues, of any size that the device allows.
fn begin(storm: &mut Storm<'_>) {
    let index = storm.random.below(storm.targets.len());
    let Some(target) = storm.targets.get(index) else { return };
    // Where its registers are not, a driver waits long for its reset.
    if !storm.random.once_in(64) {
        target.restore();
    }
    storm.forget(index);
    // A device that refuses, or whose registers others have moved, is left as it is.
    let _ = bring_up(storm, target, index);
}

fn bring_up(storm: &mut Storm<'_>, target: &Target, index: usize) -> Result<(), Refused> {
    // All that a driver may wish for, or anything.
    let wanted = if storm.random.once_in(2) { !0 >> 24 } else { storm.random.any() };
    let rings = if storm.random.once_in(4) { wanted } else { wanted | INDIRECT | EVENT_IDX };
    let device = Device::begin(&Io, target.place, 0, rings)?;
    for queue in 0..storm.rings.len() as u16 {
        let free = storm.rings.iter().position(Option::is_none);
        let (Some(slot), most) = (free, device.queue_size(&Io, queue)) else { break };
        if most == 0 {
            break;
        }
        if storm.random.once_in(8) {
            continue;
        }
        let options = Options { indirect: false, event_idx: device.has(EVENT_IDX) };
        let layout = Layout::new(most, 1 << storm.random.below(9), 1, options)?;
        let base = slot * ROOM;
        let address = storm.arena.address() + base as u64;
        // Zeroed, or as the last one left it.
        if storm.random.once_in(2) {
            (base..base + ROOM).step_by(8).for_each(|at| storm.arena.store64(at, 0));
        }
        let parts = layout.addresses(address).map(|part| (part - storm.arena.address()) as usize);
        let interrupt = (!storm.random.once_in(4)).then_some((cpu::index(), WAKE));
        let bell = device.add_queue(&Io, queue, &layout, address, interrupt)?;
        storm.rings[slot] =
            Some(Ring { target: index, kind: target.kind, size: layout.size, parts, bell, offered: 0 });
        if storm.random.once_in(32) {
            // Over the one before, or where there is no memory.
            let wrong = storm.place().max(address) & !0xf;
            device.add_queue(&Io, queue, &layout, wrong, None)?;
        }
    }
    device.start(&Io)
}

/// A request that the device can mostly do: readable parts, then writable ones, offered and announced.
fn request(storm: &mut Storm<'_>, mut ring: Ring) -> Ring {
    let many = 1 + storm.random.below(4.min(ring.size));
    let first = storm.random.below(ring.size);
    let readable = storm.random.below(many + 1);
    for part in 0..many {
        let at = (first + part) % ring.size;
        let address = if storm.random.once_in(8) { storm.place() } else { storm.buffer() };
        if part == 0 {
            header(storm, ring.kind, address);
        }
        let len = storm.random.of(&[1, 12, 16, 44, 512, 4096, 65536]) as u64;
        let len = if storm.random.once_in(16) { storm.random.value() & 0xffff_ffff } else { len };
        let flags = if part + 1 < many { NEXT } else { 0 } | if part < readable { 0 } else { WRITE };
        let next = ((at + 1) % ring.size) as u64;
        put(storm, &ring, at, address, len | flags << 32 | next << 48);
    }
    let entry = ring.parts[1] + 4 + 2 * (usize::from(ring.offered) % ring.size);
    storm.arena.store16(entry, first as u16);
    ring.offered = ring.offered.wrapping_add(1);
    storm.arena.store16(ring.parts[1] + 2, ring.offered);
    ring.kick();
    ring
}

/// What a request begins with, where that is in the arena: of a disk, else of nothing in particular.
fn header(storm: &mut Storm<'_>, kind: u16, address: u64) {
    let Some(at) = address.checked_sub(storm.arena.address()).map(|at| at as usize & !7) else { return };
    let word = match kind {
        // In, out, flush, id, discard, zeroes.
        BLK => storm.random.of(&[0, 0, 1, 1, 4, 8, 11, 13, 99]),
        _ if storm.random.once_in(2) => 0,
        _ => storm.random.value(),
    };
    storm.arena.store64(at, word);
    let second = if storm.random.once_in(8) { storm.random.value() } else { storm.random.below(256) as u64 };
    storm.arena.store64(at + 8, second);
}

fn put(storm: &Storm<'_>, ring: &Ring, descriptor: usize, address: u64, rest: u64) {
    let at = ring.parts[0] + DESCRIPTOR * descriptor;
    storm.arena.store64(at, address);
    storm.arena.store64(at + 8, rest);
}

/// A descriptor of any length, flags and successor: loops, tables in tables, ends that are none.
fn descriptor(storm: &mut Storm<'_>, ring: &Ring) {
    let (at, address) = (storm.random.below(ring.size), storm.place());
    let flags = storm.random.below(16) as u64;
    let next =
        if storm.random.once_in(2) { storm.random.below(ring.size) as u64 } else { storm.random.any() };
    let len = storm.random.value() & 0xffff_ffff;
    put(storm, ring, at, address, len | flags << 32 | next << 48);
}

/// An index or a flag of either ring.
fn index(storm: &mut Storm<'_>, ring: &Ring) {
    let part = ring.parts[1 + storm.random.below(2)];
    let entries = if storm.random.once_in(2) { 2 } else { 4 + 8 * ring.size };
    let at = part + storm.random.below(entries) * 2 % (4 + 8 * ring.size);
    storm.arena.store16(at, storm.random.value() as u16);
    if storm.random.once_in(2) {
        ring.kick();
    }
}

/// A word anywhere in the arena: of rings, of requests under way, of what devices have written.
fn scribble(storm: &mut Storm<'_>) {
    let at = storm.random.below(ARENA) & !7;
    let value = if storm.random.once_in(2) { storm.place() } else { storm.random.value() | 1 << 40 };
    storm.arena.store64(at, value);
}
