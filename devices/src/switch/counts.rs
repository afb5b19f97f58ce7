//! What one ring of a port did. Written by whoever holds the ring, read by anyone at any time.

use crate::virtio::counters::Count;

/// Batches of 1, 2 to 3, 4 to 7, … 64 and more.
pub const SIZES: usize = 7;

/// The live counters.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counters {
    /// Buffers: descriptor chains taken and given back.
    pub chains: Count,
    pub packets: Count,
    /// Of frames, without virtio's headers.
    pub bytes: Count,
    pub batches: [Count; SIZES],
    pub interrupts: Count,
    /// Kicks by fds that are no longer in use; those of the present one are in the fd.
    pub kicks: Count,
    /// Checksums completed, and frames cut into segments, because the receiver took neither.
    pub checksums: Count,
    pub segmented: Count,
    pub no_buffer: Count,
    pub too_large: Count,
    pub unknown_port: Count,
    pub malformed: Count,
}

impl Counters {
    /// Counts a batch of `packets`, at least one.
    pub fn batch(&self, packets: usize) {
        if packets > 0 {
            self.batches[(packets.ilog2() as usize).min(SIZES - 1)].add(1);
        }
    }

    /// The numbers now; `kicks` are those not yet counted here.
    pub fn snapshot(&self, kicks: u64) -> Counts {
        Counts {
            chains: self.chains.get(),
            packets: self.packets.get(),
            bytes: self.bytes.get(),
            batches: self.batches.each_ref().map(Count::get),
            interrupts: self.interrupts.get(),
            kicks: self.kicks.get() + kicks,
            checksums: self.checksums.get(),
            segmented: self.segmented.get(),
            drops: Drops {
                no_buffer: self.no_buffer.get(),
                too_large: self.too_large.get(),
                unknown_port: self.unknown_port.get(),
                malformed: self.malformed.get(),
            },
        }
    }
}

/// The counters of one ring, as plain data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub chains: u64,
    pub packets: u64,
    pub bytes: u64,
    pub batches: [u64; SIZES],
    pub interrupts: u64,
    pub kicks: u64,
    pub checksums: u64,
    pub segmented: u64,
    pub drops: Drops,
}

/// Frames that went nowhere, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    /// The receiver had no buffer for it.
    pub no_buffer: u64,
    /// The receiver's buffers are too small for it, or no frame is that long.
    pub too_large: u64,
    /// No port to send it to: it is for the one that it came from, or for one that does not run.
    pub unknown_port: u64,
    /// Shorter than an Ethernet header, or with a virtio header that promises what is not there.
    pub malformed: u64,
}

impl Drops {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.no_buffer + self.too_large + self.unknown_port + self.malformed
    }
}
