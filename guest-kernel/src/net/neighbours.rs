//! Whose hardware address is known: a small table, the newest in place of the oldest.

use super::frame::{Ip, Mac};

const MOST: usize = 32;

/// All zero is an empty table.
pub struct Neighbours {
    known: [(Ip, Mac); MOST],
    next: usize,
}

impl Neighbours {
    pub const NONE: Neighbours = Neighbours { known: [([0; 4], [0; 6]); MOST], next: 0 };

    pub fn find(&self, ip: Ip) -> Option<Mac> {
        self.known.iter().find(|(known, _)| *known == ip && ip != [0; 4]).map(|(_, mac)| *mac)
    }

    pub fn learn(&mut self, ip: Ip, mac: Mac) {
        match self.known.iter_mut().find(|(known, _)| *known == ip) {
            Some(entry) => entry.1 = mac,
            None => {
                self.known[self.next] = (ip, mac);
                self.next = (self.next + 1) % MOST;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_known() {
        let mut table = Neighbours::NONE;
        assert_eq!(table.find([0; 4]), None);
        for n in 1..=40 {
            table.learn([10, 0, 0, n], [n; 6]);
        }
        table.learn([10, 0, 0, 40], [7; 6]);
        assert_eq!(
            [1, 8, 9, 40].map(|n| table.find([10, 0, 0, n])),
            [None, None, Some([9; 6]), Some([7; 6])]
        );
    }
}
