//! What has arrived for a port and was not looked at yet: which buffers, in order.

/// Entries of a channel, fewer than a receive queue has buffers: one port can't starve the others.
pub const ENTRIES: usize = 512;

/// A frame in a buffer of a receive queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrival {
    pub pair: u16,
    pub slot: u16,
    /// Bytes, the device's own header included.
    pub len: u16,
}

/// All zero is an empty channel.
pub struct Channel {
    entries: [Arrival; ENTRIES],
    /// Free-running.
    first: usize,
    end: usize,
}

impl Channel {
    pub const EMPTY: Channel =
        Channel { entries: [Arrival { pair: 0, slot: 0, len: 0 }; ENTRIES], first: 0, end: 0 };

    /// Whether there was room.
    pub fn push(&mut self, arrival: Arrival) -> bool {
        let room = self.end.wrapping_sub(self.first) < ENTRIES;
        if room {
            self.entries[self.end % ENTRIES] = arrival;
            self.end = self.end.wrapping_add(1);
        }
        room
    }

    pub fn pop(&mut self) -> Option<Arrival> {
        let arrival = (self.first != self.end).then_some(self.entries[self.first % ENTRIES])?;
        self.first = self.first.wrapping_add(1);
        Some(arrival)
    }

    pub fn is_empty(&self) -> bool {
        self.first == self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_order_and_no_more_than_fits() {
        let mut channel = Channel::EMPTY;
        let arrival = |slot| Arrival { pair: 1, slot, len: 60 };
        assert_eq!(channel.pop(), None);
        for round in 0..3 {
            let taken = (0..600).filter(|slot| channel.push(arrival(*slot))).count();
            assert_eq!(taken, ENTRIES);
            for slot in 0..ENTRIES as u16 {
                assert_eq!(channel.pop(), Some(arrival(slot)), "round {round}");
            }
            assert!(channel.is_empty() && channel.pop().is_none());
        }
    }
}
