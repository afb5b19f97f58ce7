//! Groups of twenty senders and twenty receivers: every sender passes 100-byte messages to every
//! receiver of its group, through queues that block at both ends.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use abi::record::Record;
use abi::workload::Spec;

use crate::Results;
use crate::platform::{Platform, Unavailable};
use crate::semaphore::Semaphore;
use crate::sys::queues;

/// Senders in a group, and receivers.
const SIDE: usize = 20;
/// Messages that a queue holds.
const DEPTH: usize = 16;
/// Words of a message: 104 bytes.
const MESSAGE: usize = 13;

/// One receiver's queue. All zero, it is empty and has no room yet.
pub struct Queue {
    room: Semaphore,
    messages: Semaphore,
    /// Held by the sender that writes; there is one receiver.
    writer: Semaphore,
    written: AtomicU32,
    read: AtomicU32,
    slots: [[AtomicU64; MESSAGE]; DEPTH],
}

pub(crate) fn run<P: Platform>(
    platform: &P,
    spec: &Spec<'_>,
    results: Results<'_>,
) -> Result<(), Unavailable> {
    let (groups, loops) = (spec.count("groups"), spec.number("loops"));
    let lost = AtomicU64::new(0);
    let ns = platform.memory((groups * SIDE + 1) * size_of::<Queue>(), |memory| {
        let queues = queues(memory);
        for queue in queues {
            (0..DEPTH).for_each(|_| queue.room.post(platform));
            queue.writer.post(platform);
        }
        let start = platform.now();
        platform.run(groups * SIDE * 2, &|thread| {
            // Pairs of sender and receiver, so that both kinds come to every CPU.
            let (group, member) = (thread / (2 * SIDE), thread % (2 * SIDE));
            let Some(group) = queues.get(group * SIDE..(group + 1) * SIDE) else { return };
            match group.get(member.wrapping_sub(SIDE)) {
                None => (0..loops).for_each(|n| group.iter().for_each(|queue| queue.send(platform, n))),
                Some(queue) => {
                    let sum = (0..loops * SIDE as u64)
                        .fold(0u64, |sum, _| sum.wrapping_add(queue.receive(platform)));
                    let sent = (SIDE as u64).wrapping_mul(loops.wrapping_mul(loops.wrapping_sub(1)) / 2);
                    lost.fetch_add(u64::from(sum != sent), Ordering::Relaxed);
                }
            }
        })?;
        Ok(platform.now() - start)
    })??;
    if lost.into_inner() > 0 {
        return Err(Unavailable("messages-were-lost"));
    }
    let messages = (groups * SIDE * SIDE) as u64 * loops;
    results(&Record::new(spec.text(), "-", messages, ns).with("threads", (groups * SIDE * 2) as u64));
    Ok(())
}

impl Queue {
    fn send<P: Platform>(&self, platform: &P, value: u64) {
        self.room.wait(platform);
        self.writer.wait(platform);
        let slot = &self.slots[self.written.fetch_add(1, Ordering::Relaxed) as usize % DEPTH];
        slot.iter().for_each(|word| word.store(value, Ordering::Relaxed));
        self.writer.post(platform);
        self.messages.post(platform);
    }

    fn receive<P: Platform>(&self, platform: &P) -> u64 {
        self.messages.wait(platform);
        let slot = &self.slots[self.read.fetch_add(1, Ordering::Relaxed) as usize % DEPTH];
        let value = slot.iter().map(|word| word.load(Ordering::Relaxed)).max().unwrap_or(0);
        self.room.post(platform);
        value
    }
}
