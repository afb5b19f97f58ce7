//! One receive and one send queue, with their buffers: a pool for each CPU that has a pair of its own.

use workloads::platform::Unavailable;

use super::channel::Arrival;
use crate::arch::device::{Io, Window};
use crate::kernel::MACHINE;
use crate::memory::Loan;
use crate::virtio::device::{Device, Doorbell};
use crate::virtio::queue::{Layout, MOST, Queue};
use crate::virtio::registers::Shared;

/// A frame of the usual size with what the device puts before it (virtio 1.2 §5.1.6): always zero here.
const BUFFER: usize = 2048;
pub const HEADER: usize = 12;
const PAGE: usize = 4096;
/// A ring of fewer entries than this isn't asked for, however little memory there is.
const FEWEST: usize = 128;
/// A receive buffer that is free again is worth a look whether the device wants a kick, if it is one of so many.
const GIVEN_BACK: u16 = 32;

/// A queue whose request n is buffer n.
pub struct Half {
    queue: Queue<Window>,
    bell: Doorbell,
    /// Where the buffers begin.
    buffers: usize,
}

impl Half {
    const ABSENT: Half = Half { queue: Queue::absent(Window::NONE), bell: Doorbell::NONE, buffers: 0 };

    fn new(
        device: &Device,
        number: u16,
        receives: bool,
        interrupt: Option<(usize, u8)>,
    ) -> Result<Half, Unavailable> {
        let mut most = MOST;
        let (layout, buffers, loan) = loop {
            let layout = Layout::new(device.queue_size(&Io, number), most, 1, device.rings())?;
            let buffers = layout.bytes.next_multiple_of(PAGE);
            match MACHINE.memory.take(buffers + BUFFER * layout.slots(), PAGE) {
                Some(loan) => break (layout, buffers, loan),
                // A small machine has a smaller ring.
                None if most > FEWEST => most = layout.size / 2,
                None => return Err(Unavailable("too-little-memory")),
            }
        };
        let queue = Queue::new(Window::new(loan), layout);
        let address = queue.memory.address();
        let mut half = Half { queue, bell: Doorbell::NONE, buffers };
        match device.add_queue(&Io, number, &layout, address, interrupt) {
            Ok(bell) => half.bell = bell,
            Err(refused) => {
                MACHINE.memory.give_back(half.end());
                return Err(refused.into());
            }
        }
        for slot in 0..if receives { layout.slots() } else { 0 } {
            half.describe(slot, BUFFER, true);
            half.queue.offer(slot);
        }
        Ok(half)
    }

    fn describe(&self, slot: usize, len: usize, device_writes: bool) {
        let address = self.queue.memory.address() + self.at(slot) as u64;
        self.queue.describe(slot, 0, address, len, device_writes);
    }

    fn at(&self, slot: usize) -> usize {
        self.buffers + BUFFER * slot
    }

    /// One kick for all that was offered since the last, if the device wants one.
    fn kick(&mut self) -> (u16, bool) {
        let (offered, kick) = self.queue.wants_kick();
        if kick {
            self.bell.ring(&Io);
        }
        (offered, kick)
    }

    /// The memory, after the device has been reset.
    fn end(&mut self) -> Loan {
        self.queue.memory.end()
    }
}

/// A send queue and the buffers that are free.
pub struct Sender {
    half: Half,
    free: [u16; MOST],
    count: usize,
}

impl Sender {
    pub const ABSENT: Sender = Sender { half: Half::ABSENT, free: [0; MOST], count: 0 };

    pub fn new(device: &Device, number: u16, interrupt: Option<(usize, u8)>) -> Result<Sender, Unavailable> {
        let half = Half::new(device, number, false, interrupt)?;
        let mut sender = Sender { half, ..Sender::ABSENT };
        (0..sender.half.queue.slots()).for_each(|slot| sender.put_back(slot));
        Ok(sender)
    }

    fn put_back(&mut self, slot: usize) {
        if let Some(entry) = self.free.get_mut(self.count) {
            *entry = slot as u16;
            self.count += 1;
        }
    }

    /// Offers a frame; `false` where all buffers are under way. A kick is due for every `batch`.
    pub fn send(&mut self, head: &[u8], payload: &[u8], batch: u16) -> bool {
        if self.count == 0 && !self.reclaim() {
            return false;
        }
        self.count -= 1;
        let slot = usize::from(self.free[self.count]);
        let (at, len) = (self.half.at(slot), HEADER + head.len() + payload.len());
        self.half.queue.memory.put(at + HEADER, head);
        self.half.queue.memory.put(at + HEADER + head.len(), payload);
        self.half.describe(slot, len, false);
        self.half.queue.offer(slot);
        if self.half.queue.untold() >= batch {
            self.kick();
        }
        true
    }

    pub fn kick(&mut self) {
        let (offered, kick) = self.half.kick();
        MACHINE.scheduler.count_kicks(offered, kick);
    }

    /// Takes back what was sent; whether there is a free buffer then.
    pub fn reclaim(&mut self) -> bool {
        while let Ok(Some((slot, _))) = self.half.queue.take() {
            self.put_back(slot);
        }
        self.count > 0
    }

    /// Whether all that was offered has been sent.
    pub fn is_done(&mut self) -> bool {
        self.reclaim();
        self.count == self.half.queue.slots()
    }

    /// Asks for an interrupt at the next frame sent; whether there is one already.
    pub fn listen(&mut self) -> bool {
        self.half.queue.listen()
    }

    pub fn end(&mut self) -> Loan {
        self.half.end()
    }
}

/// A receive queue.
pub struct Receiver {
    half: Half,
    listening: bool,
    /// It has lied, and is silent from then on.
    broken: bool,
}

impl Receiver {
    pub const ABSENT: Receiver = Receiver { half: Half::ABSENT, listening: false, broken: false };

    pub fn new(
        device: &Device,
        number: u16,
        interrupt: Option<(usize, u8)>,
    ) -> Result<Receiver, Unavailable> {
        Ok(Receiver { half: Half::new(device, number, true, interrupt)?, ..Receiver::ABSENT })
    }

    pub fn kick(&mut self) {
        let (_, kick) = self.half.kick();
        MACHINE.scheduler.count_kicks(kick.into(), kick);
    }

    /// Takes what has arrived first.
    pub fn take(&mut self, pair: usize) -> Option<Arrival> {
        let taken = self.half.queue.take();
        self.broken |= taken.is_err();
        let (slot, len) = taken.ok()??;
        Some(Arrival { pair: pair as u16, slot: slot as u16, len: len.min(BUFFER) as u16 })
    }

    /// Copies from a frame, behind the device's header.
    pub fn read(&self, arrival: Arrival, at: usize, bytes: &mut [u8]) {
        self.half.queue.memory.get(self.half.at(arrival.slot.into()) + HEADER + at, bytes);
    }

    /// Gives the buffer to the device again. The kick, if one is due, waits for more of them, or for the end
    /// of what has arrived.
    pub fn recycle(&mut self, arrival: Arrival) {
        self.half.queue.offer(arrival.slot.into());
        if self.half.queue.untold() >= GIVEN_BACK {
            self.kick();
        }
    }

    pub fn has_arrivals(&self) -> bool {
        !self.broken && self.half.queue.has_used()
    }

    /// Asks for an interrupt at the next arrival; whether there is one already.
    pub fn listen(&mut self) -> bool {
        self.listening = true;
        self.half.queue.listen() && !self.broken
    }

    /// No interrupts any more; whether one may have come.
    pub fn hush(&mut self) -> bool {
        let listened = core::mem::take(&mut self.listening);
        if listened {
            self.half.queue.hush();
        }
        listened
    }

    pub fn end(&mut self) -> Loan {
        self.half.end()
    }
}
