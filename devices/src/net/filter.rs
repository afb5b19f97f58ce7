//! Which frames the driver wants (virtio 1.2 §5.1.6.5.1, §5.1.6.5.2). Pure.

use virtio_bindings::virtio_net::*;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// Addresses of each kind that are told apart; of more, all are let through.
const MOST: usize = 64;

/// What a card lets through to its driver: everything, until the driver says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    promiscuous: bool,
    all_multicast: bool,
    own: Mac,
    /// `None`: too many to be told apart.
    unicast: Option<Vec<Mac>>,
    multicast: Option<Vec<Mac>>,
}

impl Filter {
    /// The filter of a card with this address.
    pub fn new(own: Mac) -> Filter {
        let (unicast, multicast) = (Some(Vec::new()), Some(Vec::new()));
        Filter { promiscuous: true, all_multicast: true, own, unicast, multicast }
    }

    /// The card's own address.
    pub fn own(&self) -> Mac {
        self.own
    }

    /// Obeys a command of class RX (0) or MAC (1); false where it makes no sense.
    pub fn obey(&mut self, class: u32, command: u32, data: &[u8]) -> bool {
        match (class, command, data) {
            (VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &[on @ (0 | 1)]) => self.promiscuous = on == 1,
            (VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLMULTI, &[on @ (0 | 1)]) => {
                self.all_multicast = on == 1
            }
            (VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, data) => match data.try_into() {
                Ok(mac) if !is_multicast(mac) => self.own = mac,
                _ => return false,
            },
            (VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, data) => {
                let Some((unicast, rest)) = table(data) else { return false };
                let Some((multicast, [])) = table(rest) else { return false };
                (self.unicast, self.multicast) = (unicast, multicast);
            }
            _ => return false,
        }
        true
    }

    /// Whether a frame to this address is wanted.
    #[inline]
    pub fn wants(&self, to: Mac) -> bool {
        let listed = |table: &Option<Vec<Mac>>| table.as_ref().is_none_or(|table| table.contains(&to));
        self.promiscuous
            || to == self.own
            || if is_multicast(to) {
                to == [0xff; 6] || self.all_multicast || listed(&self.multicast)
            } else {
                listed(&self.unicast)
            }
    }
}

fn is_multicast(mac: Mac) -> bool {
    mac[0] & 1 != 0
}

/// `struct virtio_net_ctrl_mac`: a count, then as many addresses. What is behind it comes back.
fn table(data: &[u8]) -> Option<(Option<Vec<Mac>>, &[u8])> {
    let (count, rest) = data.split_first_chunk::<4>()?;
    let count = usize::try_from(u32::from_le_bytes(*count)).ok()?;
    let (macs, rest) = rest.split_at_checked(count.checked_mul(6)?)?;
    let macs = macs.as_chunks::<6>().0;
    Some(((macs.len() <= MOST).then(|| macs.to_vec()), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Mac = [2, 0, 0, 0, 0, 1];
    const OTHER: Mac = [2, 0, 0, 0, 0, 2];
    const GROUP: Mac = [0x33, 0x33, 0, 0, 0, 1];

    fn wants(filter: &Filter) -> [bool; 4] {
        [OWN, OTHER, GROUP, [0xff; 6]].map(|mac| filter.wants(mac))
    }

    #[test]
    fn everything_until_the_driver_narrows_it() {
        let mut filter = Filter::new(OWN);
        assert_eq!(wants(&filter), [true; 4]);
        assert!(filter.obey(0, 0, &[0]));
        assert_eq!(wants(&filter), [true, false, true, true]);
        assert!(filter.obey(0, 1, &[0]));
        assert_eq!(wants(&filter), [true, false, false, true]);
        assert!(filter.obey(1, 0, &[&[0; 4][..], &[1, 0, 0, 0], &GROUP].concat()));
        assert_eq!(wants(&filter), [true, false, true, true]);
        assert!(filter.obey(1, 0, &[&[1, 0, 0, 0][..], &OTHER, &[0; 4]].concat()));
        assert_eq!(wants(&filter), [true, true, false, true]);
        assert!(filter.obey(1, 0, &[0; 8]) && filter.obey(1, 1, &OTHER));
        assert_eq!((wants(&filter), filter.own()), ([false, true, false, true], OTHER));
    }

    #[test]
    fn more_addresses_than_are_told_apart_let_all_through() {
        let mut filter = Filter::new(OWN);
        assert!(filter.obey(0, 0, &[0]) && filter.obey(0, 1, &[0]));
        let many = [&65_u32.to_le_bytes()[..], &[2; 6 * 65], &[0; 4]].concat();
        assert!(filter.obey(1, 0, &many));
        assert_eq!(wants(&filter), [true, true, false, true]);
    }

    #[test]
    fn what_makes_no_sense_changes_nothing() {
        let mut filter = Filter::new(OWN);
        let before = filter.clone();
        let long = [&[2, 0, 0, 0][..], &OTHER].concat();
        for (class, command, data) in [
            (0, 0, &[][..]),
            (0, 0, &[2]),
            (0, 0, &[0, 0]),
            (0, 2, &[0]),
            (1, 1, &GROUP),
            (1, 1, &[2; 5]),
            (1, 0, &[0; 7]),
            (1, 0, &[0; 9]),
            (1, 0, &[0xff; 64]),
            (1, 0, &long),
            (1, 2, &[]),
        ] {
            assert!(!filter.obey(class, command, data), "{class} {command} {data:?}");
        }
        assert_eq!(filter, before);
    }
}
