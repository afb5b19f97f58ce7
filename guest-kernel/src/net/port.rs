//! An open UDP port: sends by its CPU's queue, takes from its channel.

use core::sync::atomic::{AtomicU64, Ordering};

use workloads::platform::{Datagrams, Peer, Unavailable};

use super::card::{CARD, Slot};
use super::channel::Arrival;
use super::frame::{self, End, HEADERS, Ip, LONGEST, Mac};
use super::pair::HEADER;
use crate::arch::cpu;
use crate::arch::spin::Spin;
use crate::kernel::MACHINE;

/// So long is a neighbour waited for, so often; a silent one is not asked again for as long.
const ANSWER_NS: u64 = 300_000_000;
const QUESTIONS: u32 = 3;
/// So long is waited for a buffer to send from, and looked again without an interrupt: that may go to
/// another CPU.
const ROOM_NS: u64 = 2_000_000_000;
const LOOK_NS: u64 = 1_000_000;
/// Limited broadcast (RFC 919): nobody has to answer for it.
const EVERYBODY: Ip = [255; 4];

/// An open port.
pub struct Port {
    number: u16,
    /// Its slot on the card.
    at: usize,
    poll: bool,
    /// Datagrams to a kick.
    batch: u16,
    /// Whom it has sent to, or heard from, last.
    last: Spin<(Ip, Mac)>,
    /// Until when nobody is asked for, after silence.
    silent_until: AtomicU64,
}

impl Port {
    pub fn open(number: u16, poll: bool, batch: usize) -> Result<Port, Unavailable> {
        CARD.join(poll)?;
        match CARD.claim(number) {
            Err(error) => {
                CARD.leave();
                Err(error)
            }
            Ok(at) => Ok(Port {
                number,
                at,
                poll,
                batch: batch as u16,
                last: Spin::new(([0; 4], [0; 6])),
                silent_until: AtomicU64::new(0),
            }),
        }
    }

    fn slot(&self) -> &Slot {
        &CARD.channels[self.at]
    }

    /// The hardware address behind `ip`: known, or asked for.
    fn resolve(&self, ip: Ip) -> Option<Mac> {
        if ip == EVERYBODY {
            return Some([0xff; 6]);
        }
        let (last, mac) = *self.last.lock();
        if last == ip {
            return Some(mac);
        }
        if MACHINE.scheduler.now() < self.silent_until.load(Ordering::Relaxed) {
            return None;
        }
        let known = || CARD.neighbours.lock().find(ip);
        for _ in 0..QUESTIONS {
            if let Some(mac) = known() {
                *self.last.lock() = (ip, mac);
                return Some(mac);
            }
            let question = frame::ask(&CARD.own.lock(), ip);
            CARD.senders[CARD.home()].lock().send(&question, &[], 1);
            let until = MACHINE.scheduler.now() + ANSWER_NS;
            while known().is_none() && MACHINE.scheduler.now() < until {
                self.pause(until);
            }
        }
        self.silent_until.store(MACHINE.scheduler.now() + ANSWER_NS, Ordering::Relaxed);
        None
    }

    /// Takes what has arrived, or waits for it until `deadline`.
    fn pause(&self, deadline: u64) {
        let home = CARD.home();
        if CARD.pull(home) {
            return;
        }
        if self.poll {
            if !CARD.pull_others(home) {
                MACHINE.scheduler.pause();
            }
            return;
        }
        let slot = self.slot();
        MACHINE
            .scheduler
            .nap(deadline, &mut |halts| !slot.channel.lock().is_empty() || CARD.has_arrivals(home, halts));
    }

    /// The datagram in a frame, copied; `None` where it is none for us.
    fn take(&self, arrival: Arrival, payload: &mut [u8]) -> Option<(usize, Peer)> {
        let mut receiver = CARD.receivers[usize::from(arrival.pair)].lock();
        let mut head = [0; HEADERS];
        receiver.read(arrival, 0, &mut head);
        let own = CARD.own.lock().ip;
        let parsed = frame::parse(&head, usize::from(arrival.len).saturating_sub(HEADER), own);
        let taken = parsed.map(|(from, range)| {
            let len = range.len().min(payload.len());
            receiver.read(arrival, range.start, &mut payload[..len]);
            *self.last.lock() = (from.ip, from.mac);
            (len, Peer { address: from.ip, port: from.port })
        });
        receiver.recycle(arrival);
        taken
    }
}

impl Datagrams for Port {
    fn send(&self, to: Peer, payload: &[u8]) -> bool {
        let Some(mac) = self.resolve(to.address) else { return false };
        let payload = payload.get(..LONGEST).unwrap_or(payload);
        let from = End { port: self.number, ..*CARD.own.lock() };
        let head = frame::datagram(&from, &End { mac, ip: to.address, port: to.port }, payload.len());
        let (sender, deadline) = (&CARD.senders[CARD.home()], MACHINE.scheduler.now() + ROOM_NS);
        while !sender.lock().send(&head, payload, self.batch) {
            // All buffers are under way: what was not kicked for is now.
            sender.lock().kick();
            let now = MACHINE.scheduler.now();
            if now > deadline {
                return false;
            }
            if self.poll {
                MACHINE.scheduler.pause();
            } else {
                MACHINE.scheduler.nap(now + LOOK_NS, &mut |halts| {
                    let mut sender = sender.lock();
                    sender.reclaim() || halts && sender.listen()
                });
            }
        }
        true
    }

    fn flush(&self) {
        CARD.senders[CARD.home()].lock().kick();
    }

    fn receive(&self, payload: &mut [u8], deadline: u64) -> Option<(usize, Peer)> {
        let slot = self.slot();
        slot.cpu.store(cpu::index(), Ordering::Relaxed);
        loop {
            let arrival = slot.channel.lock().pop();
            match arrival {
                Some(arrival) => {
                    if let Some(taken) = self.take(arrival, payload) {
                        return Some(taken);
                    }
                }
                None if CARD.pull(CARD.home()) => {}
                None if MACHINE.scheduler.now() >= deadline => return None,
                None => {
                    self.flush();
                    self.pause(deadline);
                }
            }
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        let slot = self.slot();
        slot.port.store(0, Ordering::SeqCst);
        loop {
            let arrival = slot.channel.lock().pop();
            let Some(arrival) = arrival else { break };
            CARD.receivers[usize::from(arrival.pair)].lock().recycle(arrival);
        }
        CARD.leave();
    }
}
