//! Groups of twenty senders and twenty receivers: every sender passes 100-byte messages to every
//! receiver of its group, through queues that block at both ends.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use abi::record::Record;
use abi::workload::Spec;

use crate::platform::{Platform, Unavailable};
use crate::semaphore::Semaphore;
use crate::sys::queues;
use crate::{Limit, Results};

/// Senders in a group, and receivers.
const SIDE: usize = 20;
/// Messages that a queue holds.
const DEPTH: usize = 16;
/// Words of a message: 104 bytes.
const MESSAGE: usize = 13;
/// What each sender ends with.
const END: u64 = u64::MAX;

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
    let groups = spec.count("groups");
    let (sent, received, messages) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let ns = platform.memory((groups * SIDE + 1) * size_of::<Queue>(), |memory| {
        let queues = queues(memory);
        for queue in queues {
            (0..DEPTH).for_each(|_| queue.room.post(platform));
            queue.writer.post(platform);
        }
        let limit = Limit::new(platform, spec, spec.number("loops"));
        let start = platform.now();
        platform.run(groups * SIDE * 2, &|thread| {
            // Pairs of sender and receiver, so that both kinds come to every CPU.
            let (group, member) = (thread / (2 * SIDE), thread % (2 * SIDE));
            let Some(group) = queues.get(group * SIDE..(group + 1) * SIDE) else { return };
            match group.get(member.wrapping_sub(SIDE)) {
                None => {
                    let (mut n, mut sum) = (0, 0u64);
                    while limit.next(platform, n, 1) > 0 {
                        group.iter().for_each(|queue| queue.send(platform, n));
                        sum = sum.wrapping_add(n.wrapping_mul(SIDE as u64));
                        n += 1;
                    }
                    group.iter().for_each(|queue| queue.send(platform, END));
                    sent.fetch_add(sum, Ordering::Relaxed);
                }
                Some(queue) => {
                    let (mut ends, mut count, mut sum) = (0, 0, 0u64);
                    while ends < SIDE {
                        match queue.receive(platform) {
                            END => ends += 1,
                            n => (count, sum) = (count + 1, sum.wrapping_add(n)),
                        }
                    }
                    received.fetch_add(sum, Ordering::Relaxed);
                    messages.fetch_add(count, Ordering::Relaxed);
                }
            }
        })?;
        Ok(platform.now() - start)
    })??;
    if sent.into_inner() != received.into_inner() {
        return Err(Unavailable("messages-were-lost"));
    }
    results(
        &Record::new(spec.text(), "-", messages.into_inner(), ns).with("threads", (groups * SIDE * 2) as u64),
    );
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
