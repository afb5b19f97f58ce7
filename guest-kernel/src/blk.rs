//! virtio-blk (virtio 1.2 §5.2): one queue of one disk, by interrupts or polled.
//!
//! A request is three descriptors that stay where they are: header, data, status. In ring 3, polled,
//! with a host that looks at the ring by itself, it makes no transition at all.

use core::hint::spin_loop;

use workloads::platform::{self, Unavailable};

use crate::arch::cpu;
use crate::arch::device::{Io, Window};
use crate::arch::interrupts::WAKE;
use crate::kernel::MACHINE;
use crate::virtio::device::{self, Device, Doorbell};
use crate::virtio::queue::{Layout, MOST, Queue};
use crate::virtio::registers::Shared;

const SECTOR: usize = 512;
/// `struct virtio_blk_req`: type, reserved, sector; and types (§5.2.6).
const HEADER: usize = 16;
const READ: u64 = 0;
const WRITE: u64 = 1;
const FLUSH: u64 = 4;
/// The device has a cache that is flushed (§5.2.3).
const CACHED: u64 = 1 << 9;
/// Header, data, status.
const PARTS: usize = 3;
/// A status has a word to itself. What it says when all went well, and before the device has spoken.
const STATUS: usize = 8;
const OK: u8 = 0;
const NOT_YET: u64 = u64::MAX;
/// A device that answers nothing for so long is given up.
const PATIENCE_NS: u64 = 10_000_000_000;
const PAGE: usize = 4096;

/// An open disk.
pub struct Disk {
    device: Device,
    queue: Queue<Window>,
    bell: Doorbell,
    poll: bool,
    /// Bytes of a request, and of the disk.
    size: usize,
    capacity: u64,
    /// Where headers, statuses and data begin.
    headers: usize,
    statuses: usize,
    data: usize,
    /// Requests under way; none comes back from a device that has lied, or doesn't answer.
    under_way: usize,
    broken: bool,
}

impl Disk {
    /// Opens disk `index` for requests of `size` bytes, `depth` under way.
    pub fn open(index: usize, size: usize, depth: usize, poll: bool) -> Result<Disk, Unavailable> {
        Disk::begin(index, size, depth, poll, 0)
    }

    /// The same, of a disk that can be flushed.
    pub fn open_cached(index: usize, size: usize, depth: usize, poll: bool) -> Result<Disk, Unavailable> {
        Disk::begin(index, size, depth, poll, CACHED)
    }

    fn begin(index: usize, size: usize, depth: usize, poll: bool, needed: u64) -> Result<Disk, Unavailable> {
        let io = &Io;
        if !size.is_multiple_of(SECTOR) {
            return Err(Unavailable("size-is-no-multiple-of-512"));
        }
        let place = device::find(io, &MACHINE.buses(), device::BLK, index)?;
        let device = Device::begin(io, place, needed, device::INDIRECT | device::EVENT_IDX)?;
        let layout = Layout::new(device.queue_size(io, 0), MOST, PARTS, device.rings())?;
        if layout.slots() < depth {
            return Err(Unavailable("queue-shorter-than-depth"));
        }
        let headers = layout.bytes.next_multiple_of(HEADER);
        let statuses = headers + HEADER * depth;
        let data = (statuses + STATUS * depth).next_multiple_of(PAGE);
        let loan = MACHINE.memory.take(data + size * depth, PAGE).ok_or(Unavailable("too-little-memory"))?;
        let mut disk = Disk {
            device,
            queue: Queue::new(Window::new(loan), layout),
            bell: Doorbell::NONE,
            poll,
            size,
            capacity: device.config64(io, 0).saturating_mul(SECTOR as u64),
            headers,
            statuses,
            data,
            under_way: 0,
            broken: false,
        };
        for slot in 0..depth {
            disk.queue.describe(slot, 0, disk.at(headers + HEADER * slot), HEADER, false);
            disk.queue.describe(slot, 2, disk.at(statuses + STATUS * slot), 1, true);
        }
        let interrupt = (!poll).then_some((cpu::index(), WAKE));
        disk.bell = device.add_queue(io, 0, &layout, disk.at(0), interrupt)?;
        device.start(io)?;
        Ok(disk)
    }

    /// The address of a place in the memory that is shared.
    fn at(&self, offset: usize) -> u64 {
        self.queue.memory.address() + offset as u64
    }

    /// Tells the device, of nothing new.
    pub fn nudge(&self) {
        self.bell.ring(&Io);
    }

    /// Starts a flush: what has ended before it is to outlive the device's host.
    pub fn flush(&mut self, tag: u32) -> bool {
        let slot = tag as usize;
        self.head(slot, FLUSH, 0);
        self.queue.describe_last(slot, 1, self.at(self.statuses + STATUS * slot), 1, true);
        self.offer(slot)
    }

    fn head(&self, slot: usize, kind: u64, sector: u64) {
        self.queue.memory.store64(self.headers + HEADER * slot, kind);
        self.queue.memory.store64(self.headers + HEADER * slot + 8, sector);
        self.queue.memory.store64(self.statuses + STATUS * slot, NOT_YET);
    }

    fn offer(&mut self, slot: usize) -> bool {
        let offered = !self.broken && self.queue.offer(slot);
        self.under_way += usize::from(offered);
        offered
    }

    /// Copies to what a request is going to write.
    pub fn put(&mut self, tag: u32, bytes: &[u8]) {
        self.queue.memory.put(self.data + self.size * tag as usize, bytes);
    }

    /// Copies from what a request that has ended has read.
    pub fn copy(&self, tag: u32, offset: usize, bytes: &mut [u8]) {
        self.queue.memory.get(self.data + self.size * tag as usize + offset, bytes);
    }

    /// One kick for all that was submitted since the last, if the device wants one.
    fn kick(&mut self) {
        let (requests, kick) = self.queue.wants_kick();
        if kick {
            self.bell.ring(&Io);
        }
        MACHINE.scheduler.count_kicks(requests, kick);
    }

    /// Waits until something was given back; `false` where nothing is.
    fn wait(&mut self) -> bool {
        let deadline = MACHINE.scheduler.now() + PATIENCE_NS;
        if self.poll {
            while !self.queue.has_used() {
                if MACHINE.scheduler.now() > deadline {
                    return false;
                }
                spin_loop();
            }
            return true;
        }
        MACHINE.scheduler.nap(deadline, &mut |halts| {
            if halts { self.queue.listen() } else { self.queue.has_used() }
        });
        self.device.acknowledge(&Io);
        self.queue.has_used()
    }
}

impl platform::Disk for Disk {
    fn capacity(&self) -> u64 {
        self.capacity
    }

    fn submit(&mut self, tag: u32, offset: u64, write: bool) -> bool {
        let slot = tag as usize;
        let kind = if write { WRITE } else { READ };
        self.head(slot, kind, offset / SECTOR as u64);
        self.queue.describe(slot, 1, self.at(self.data + self.size * slot), self.size, !write);
        self.offer(slot)
    }

    fn complete(&mut self) -> Option<(u32, bool)> {
        loop {
            if self.under_way == 0 || self.broken {
                return None;
            }
            match self.queue.take() {
                Ok(Some((slot, _))) => {
                    self.under_way -= 1;
                    let status = self.queue.memory.load32(self.statuses + STATUS * slot) as u8;
                    return Some((slot as u32, status == OK));
                }
                Ok(None) => {
                    self.kick();
                    self.broken = !self.queue.has_used() && !self.wait();
                }
                Err(_) => self.broken = true,
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Memory that a device may still write to is lost.
        if self.device.reset(&Io).is_ok() {
            MACHINE.memory.give_back(self.queue.memory.end());
        }
    }
}
