//! The last exits of a vCPU, for the dump after a triple fault.

use crate::kvm::exit::ExitKind;

const KEPT: usize = 16;

/// One exit as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    pub kind: ExitKind,
    /// Port or guest-physical address; 0 where the kind has none.
    pub address: u64,
    /// Bytes moved; 0 where the kind moves none.
    pub size: u32,
}

/// A ring of the last sixteen.
#[derive(Clone, Debug)]
pub struct Recent {
    exits: [Exit; KEPT],
    seen: usize,
}

impl Default for Recent {
    fn default() -> Self {
        Recent { exits: [Exit { kind: ExitKind::Interrupted, address: 0, size: 0 }; KEPT], seen: 0 }
    }
}

impl Recent {
    #[inline]
    pub(super) fn push(&mut self, exit: Exit) {
        self.exits[self.seen % KEPT] = exit;
        self.seen = self.seen.wrapping_add(1);
    }

    /// Oldest first.
    pub fn iter(&self) -> impl Iterator<Item = Exit> {
        let first = self.seen.saturating_sub(KEPT);
        (first..self.seen).map(|i| self.exits[i % KEPT])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_last_sixteen_in_order() {
        let mut recent = Recent::default();
        assert_eq!(recent.iter().count(), 0);
        for address in 0..20 {
            recent.push(Exit { kind: ExitKind::PioWrite, address, size: 1 });
        }
        assert_eq!(recent.iter().map(|exit| exit.address).collect::<Vec<_>>(), (4..20).collect::<Vec<_>>());
    }
}
