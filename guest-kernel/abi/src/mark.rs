//! How far a guest has come, as one 32-bit port write to [`crate::port::MARK`]:
//! kind in bits 24..=31, index in bits 0..=15.

/// What the guest has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The kernel has started (built-in kernel: first instructions; Linux: never sent).
    Kernel,
    /// Process 1 runs (Linux), or the kernel's own main (built-in).
    Init,
    /// Everything is set up; the next thing is the first workload.
    Ready,
    /// The workload of this index, in command-line order, starts.
    Start(u16),
    /// The workload of this index has ended.
    End(u16),
    /// An agent in the guest takes calls from the host.
    Agent,
}

impl Mark {
    /// The value on the wire.
    pub const fn encode(self) -> u32 {
        let (kind, index) = match self {
            Mark::Kernel => (1, 0),
            Mark::Init => (2, 0),
            Mark::Ready => (3, 0),
            Mark::Start(i) => (4, i),
            Mark::End(i) => (5, i),
            Mark::Agent => (6, 0),
        };
        (kind << 24) | index as u32
    }

    /// A guest may write anything: what is no mark is `None`.
    pub const fn decode(value: u32) -> Option<Mark> {
        let index = (value & 0xffff) as u16;
        match (value >> 24, value & 0xff_0000, index) {
            (1, 0, 0) => Some(Mark::Kernel),
            (2, 0, 0) => Some(Mark::Init),
            (3, 0, 0) => Some(Mark::Ready),
            (4, 0, i) => Some(Mark::Start(i)),
            (5, 0, i) => Some(Mark::End(i)),
            (6, 0, 0) => Some(Mark::Agent),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mark_survives_the_wire() {
        for mark in [Mark::Kernel, Mark::Init, Mark::Ready, Mark::Start(7), Mark::End(0xffff), Mark::Agent] {
            assert_eq!(Mark::decode(mark.encode()), Some(mark));
        }
    }

    #[test]
    fn noise_is_no_mark() {
        for value in [0, 1, 0x0100_0001, 0x0401_0000, 0x0600_0001, 0x0700_0000, u32::MAX] {
            assert_eq!(Mark::decode(value), None, "{value:#x}");
        }
    }
}
