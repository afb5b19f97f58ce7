//! The card: up from the first open port to the last, in between nobody asks it for anything.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use workloads::platform::Unavailable;

use super::channel::{Arrival, Channel, ENTRIES};
use super::frame::{self, End, HEADERS, Kind};
use super::neighbours::Neighbours;
use super::pair::{HEADER, Receiver, Sender};
use crate::arch::cpu;
use crate::arch::device::{Io, Window};
use crate::arch::interrupts::WAKE;
use crate::arch::spin::Spin;
use crate::kernel::MACHINE;
use crate::virtio::device::{self, Device};
use crate::virtio::queue::{Layout, Queue};
use crate::virtio::registers::Shared;

/// Most queue pairs in use, and open ports.
const PAIRS: usize = 16;
pub const PORTS: usize = 64;
/// So many arrivals are sorted at once: what an empty channel holds, and more stays with the device, which
/// then waits, or says that it drops.
const AT_ONCE: usize = ENTRIES;
/// `VIRTIO_NET_F_MAC`, `_CTRL_VQ`, `_MQ`.
const MAC: u64 = 1 << 5;
const CONTROL: u64 = 1 << 17;
const MULTI_QUEUE: u64 = 1 << 22;
/// `VIRTIO_NET_CTRL_MQ`, `_VQ_PAIRS_SET` (virtio 1.2 §5.1.6.5.5); and what a device says that did it.
const PAIRS_SET: [u8; 2] = [4, 0];
const DONE: u16 = 0;
const NOT_YET: u64 = u64::MAX;
/// As long as a disk may take: where many poll for few CPUs, whoever answers waits for its turn.
const CONTROL_PATIENCE_NS: u64 = 10_000_000_000;
/// So long may the device take to send what it was given last.
const LAST_WORDS_NS: u64 = 100_000_000;

/// All zero is a card that is down.
pub struct Card {
    users: AtomicU32,
    /// Queue pairs in use; 0: it is down.
    pairs: AtomicUsize,
    /// It may interrupt.
    interrupts: AtomicBool,
    pub own: Spin<End>,
    pub neighbours: Spin<Neighbours>,
    pub senders: [Spin<Sender>; PAIRS],
    pub receivers: [Spin<Receiver>; PAIRS],
    /// The control queue's memory, which stays the device's.
    control: Spin<Window>,
    pub channels: [Slot; PORTS],
}

/// A port and what has arrived for it.
pub struct Slot {
    /// 0: nobody's.
    pub port: AtomicU32,
    /// The CPU of who receives.
    pub cpu: AtomicUsize,
    pub channel: Spin<Channel>,
}

pub static CARD: Card = Card {
    users: AtomicU32::new(0),
    pairs: AtomicUsize::new(0),
    interrupts: AtomicBool::new(false),
    own: Spin::new(End { mac: [0; 6], ip: [0; 4], port: 0 }),
    neighbours: Spin::new(Neighbours::NONE),
    senders: [const { Spin::new(Sender::ABSENT) }; PAIRS],
    receivers: [const { Spin::new(Receiver::ABSENT) }; PAIRS],
    control: Spin::new(Window::NONE),
    channels: [const {
        Slot { port: AtomicU32::new(0), cpu: AtomicUsize::new(0), channel: Spin::new(Channel::EMPTY) }
    }; PORTS],
};

/// The device behind it.
static DEVICE: Spin<Option<Device>> = Spin::new(None);

impl Card {
    /// Brings the card up for its first user. By whom it interrupts, if `poll` doesn't forbid it, is the
    /// same for all.
    pub fn join(&self, poll: bool) -> Result<(), Unavailable> {
        if self.users.fetch_add(1, Ordering::SeqCst) > 0 {
            return Ok(());
        }
        self.interrupts.store(!poll, Ordering::Relaxed);
        let up = self.bring_up(poll);
        if up.is_err() {
            self.leave();
        }
        up
    }

    /// The last one puts it down.
    pub fn leave(&self) {
        if self.users.fetch_sub(1, Ordering::SeqCst) > 1 {
            return;
        }
        // What was sent last is to arrive: a reset would take it back.
        let pairs = self.pairs.swap(0, Ordering::SeqCst);
        let deadline = MACHINE.scheduler.now() + LAST_WORDS_NS;
        for sender in &self.senders[..pairs] {
            sender.lock().kick();
            while !sender.lock().is_done() && MACHINE.scheduler.now() < deadline {
                MACHINE.scheduler.pause();
            }
        }
        let Some(device) = DEVICE.lock().take() else { return };
        // Memory that a device may still write to is lost.
        if device.reset(&Io).is_ok() {
            MACHINE.memory.give_back(self.control.lock().end());
            for (sender, receiver) in self.senders.iter().zip(&self.receivers).rev() {
                MACHINE.memory.give_back(sender.lock().end());
                MACHINE.memory.give_back(receiver.lock().end());
            }
        }
        *self.neighbours.lock() = Neighbours::NONE;
    }

    /// Forgets everything: the device was reset, and whoever used it is no more.
    pub fn forget(&self) {
        self.users.store(0, Ordering::SeqCst);
        self.pairs.store(0, Ordering::SeqCst);
        DEVICE.recover(None);
        self.own.recover(End::default());
        self.neighbours.recover(Neighbours::NONE);
        self.senders.iter().for_each(|sender| sender.recover(Sender::ABSENT));
        self.receivers.iter().for_each(|receiver| receiver.recover(Receiver::ABSENT));
        self.control.recover(Window::NONE);
        for slot in &self.channels {
            slot.port.store(0, Ordering::SeqCst);
            slot.channel.recover(Channel::EMPTY);
        }
    }

    fn bring_up(&self, poll: bool) -> Result<(), Unavailable> {
        let io = &Io;
        let place = device::find(io, &MACHINE.buses(), device::NET, 0)?;
        let wanted = device::EVENT_IDX | CONTROL | MULTI_QUEUE;
        let device = Device::begin(io, place, MAC, wanted)?;
        *DEVICE.lock() = Some(device);
        let mut own = self.own.lock();
        own.mac = core::array::from_fn::<u8, 6, _>(|at| device.config8(io, at));
        drop(own);
        let most = if device.has(MULTI_QUEUE) && device.has(CONTROL) { device.config16(io, 8) } else { 1 };
        let most = usize::from(most.max(1));
        // A vector for each queue, or one CPU for all of them.
        let cpus = MACHINE.cpus.load(Ordering::Relaxed);
        let shared = !poll && usize::from(device.vectors()) < 2 * most;
        let pairs = if shared { 1 } else { most.min(cpus).min(PAIRS) };
        for pair in 0..pairs {
            let interrupt = (!poll).then_some((pair, WAKE));
            *self.receivers[pair].lock() = Receiver::new(&device, 2 * pair as u16, interrupt)?;
            *self.senders[pair].lock() = Sender::new(&device, 2 * pair as u16 + 1, interrupt)?;
        }
        let control = (pairs > 1).then(|| Control::new(&device, 2 * most as u16)).transpose()?;
        device.start(io)?;
        self.receivers[..pairs].iter().for_each(|receiver| receiver.lock().kick());
        if let Some(mut control) = control {
            let done = control.use_pairs(pairs as u16);
            *self.control.lock() = control.queue.memory;
            done?;
        }
        self.pairs.store(pairs, Ordering::SeqCst);
        // A CPU that sleeps already looks at its pair when it is interrupted, and not before.
        for pair in 0..if poll { 0 } else { pairs } {
            while self.has_arrivals(pair, true) {
                self.pull(pair);
            }
        }
        Ok(())
    }

    /// The pair that this CPU uses.
    pub fn home(&self) -> usize {
        cpu::index() % self.pairs.load(Ordering::Relaxed).max(1)
    }

    /// Sorts what has arrived at a pair; whether anything had.
    pub fn pull(&self, pair: usize) -> bool {
        let Some(mut receiver) = self.receivers[pair].try_lock() else { return false };
        if !receiver.has_arrivals() {
            receiver.kick();
            return false;
        }
        if receiver.hush()
            && let Some(device) = *DEVICE.lock()
        {
            device.acknowledge(&Io);
        }
        for _ in 0..AT_ONCE {
            let Some(arrival) = receiver.take(pair) else { break };
            self.sort(&mut receiver, arrival);
        }
        true
    }

    /// The same of all pairs but `home`: where nobody is interrupted, whoever polls looks after all.
    pub fn pull_others(&self, home: usize) -> bool {
        let pairs = self.pairs.load(Ordering::Relaxed);
        (0..pairs).filter(|pair| *pair != home && self.pull(*pair)).count() > 0
    }

    fn sort(&self, receiver: &mut Receiver, arrival: Arrival) {
        let mut head = [0; HEADERS];
        receiver.read(arrival, 0, &mut head);
        match frame::kind(&head) {
            Kind::Udp(port) => {
                if let Some(slot) = self.slot(port) {
                    if slot.channel.lock().push(arrival) {
                        MACHINE.scheduler.announce(slot.cpu.load(Ordering::Relaxed));
                        return;
                    }
                    MACHINE.scheduler.count_missed();
                }
            }
            Kind::Arp if usize::from(arrival.len) >= HEADER + frame::ARP => {
                let own = *self.own.lock();
                if let Some((sender, reply)) = frame::hear(&head, &own) {
                    self.neighbours.lock().learn(sender.ip, sender.mac);
                    if let Some(reply) = reply {
                        self.senders[usize::from(arrival.pair)].lock().send(&reply, &[], 1);
                    }
                }
            }
            _ => {}
        }
        receiver.recycle(arrival);
    }

    /// What arrives for `port` goes here. Ports in a row find theirs at the first look.
    fn slot(&self, port: u16) -> Option<&Slot> {
        let first = usize::from(port);
        let slots = (0..PORTS).map(|n| &self.channels[(first + n) % PORTS]);
        slots.into_iter().find(|slot| slot.port.load(Ordering::Relaxed) == u32::from(port))
    }

    /// Makes a slot this port's.
    pub fn claim(&self, port: u16) -> Result<usize, Unavailable> {
        if self.slot(port).is_some() {
            return Err(Unavailable("port-in-use"));
        }
        let slots = (0..PORTS).map(|n| (usize::from(port) + n) % PORTS);
        let claim = |at: &usize| {
            let slot = &self.channels[*at].port;
            slot.compare_exchange(0, port.into(), Ordering::SeqCst, Ordering::SeqCst).is_ok()
        };
        slots.into_iter().find(claim).ok_or(Unavailable("too-many-ports"))
    }

    /// Whether something has arrived at a pair; before a halt it asks for the interrupt.
    pub fn has_arrivals(&self, pair: usize, halts: bool) -> bool {
        match self.receivers[pair].try_lock() {
            Some(mut receiver) if halts => receiver.listen(),
            Some(receiver) => receiver.has_arrivals(),
            None => true,
        }
    }

    /// Before an idle CPU halts: its pair may have something for threads elsewhere.
    pub fn is_busy(&self, cpu: usize) -> bool {
        let pairs = self.pairs.load(Ordering::Relaxed);
        if cpu >= pairs || !self.interrupts.load(Ordering::Relaxed) {
            return false;
        }
        self.pull(cpu) || self.has_arrivals(cpu, true)
    }
}

/// The control queue: one command, and waiting for its end.
struct Control {
    queue: Queue<Window>,
    bell: device::Doorbell,
    /// Where the command is, and behind it the answer.
    command: usize,
}

impl Control {
    fn new(device: &Device, number: u16) -> Result<Control, Unavailable> {
        let layout = Layout::new(device.queue_size(&Io, number), 2, 2, device.rings())?;
        let command = layout.bytes.next_multiple_of(16);
        let loan = MACHINE.memory.take(command + 16, 4096).ok_or(Unavailable("too-little-memory"))?;
        let queue = Queue::new(Window::new(loan), layout);
        let address = queue.memory.address();
        let bell = device.add_queue(&Io, number, &layout, address, None)?;
        queue.describe(0, 0, address + command as u64, 4, false);
        queue.describe(0, 1, address + command as u64 + 8, 1, true);
        Ok(Control { queue, bell, command })
    }

    fn use_pairs(&mut self, pairs: u16) -> Result<(), Unavailable> {
        let [low, high] = pairs.to_le_bytes();
        self.queue.memory.put(self.command, &[PAIRS_SET[0], PAIRS_SET[1], low, high]);
        self.queue.memory.store64(self.command + 8, NOT_YET);
        self.queue.offer(0);
        self.bell.ring(&Io);
        let deadline = MACHINE.scheduler.now() + CONTROL_PATIENCE_NS;
        while !self.queue.has_used() && MACHINE.scheduler.now() < deadline {
            core::hint::spin_loop();
        }
        match self.queue.memory.load16(self.command + 8) & 0xff {
            DONE => Ok(()),
            _ => Err(Unavailable("queue-pairs-refused")),
        }
    }
}
