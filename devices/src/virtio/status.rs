//! The device status register as a pure state machine (virtio 1.2 §2.1, §3.1).
//!
//! ```text
//!                 write 0, from anywhere (and the device forgets everything)
//!        ┌───────────────┬────────────────┬─────────────────┬──────────────┐
//!        ▼               │                │                 │              │
//!    ┌───────┐  ACK  ┌───┴────┐ DRIVER ┌──┴─────┐ FEATURES  ┌┴────────┐ DRIVER_OK ┌──────┐
//!    │ Reset ├──────►│ Noticed├───────►│ Driven ├──────────►│ Agreed  ├──────────►│ Live │
//!    └───────┘       └────────┘        └──┬──▲──┘  _OK      └─────────┘           └──────┘
//!                                         └──┘ features refused: the bit stays clear
//! ```
//!
//! | written                                  | becomes                     | event      |
//! |------------------------------------------|-----------------------------|------------|
//! | 0                                        | 0                           | `Reset`    |
//! | clears a bit that is set                 | unchanged                   | `None`     |
//! | next bits, in order                      | those bits                  | `None`     |
//! | FEATURES_OK, features acceptable         | with FEATURES_OK            | `Agreed`   |
//! | FEATURES_OK, features not acceptable     | without it and what follows | `None`     |
//! | DRIVER_OK after FEATURES_OK              | with DRIVER_OK              | `Live`     |
//! | a bit before its turn                    | without it and what follows | `None`     |
//! | FAILED                                   | with FAILED                 | `None`     |
//! | DEVICE_NEEDS_RESET                       | the device's own, kept      | `None`     |

/// The guest has noticed the device.
pub const ACKNOWLEDGE: u8 = 1;
/// The guest knows how to drive it.
pub const DRIVER: u8 = 2;
/// The driver is ready.
pub const DRIVER_OK: u8 = 4;
/// Features are agreed on.
pub const FEATURES_OK: u8 = 8;
/// The device has met an error that it can't recover from.
pub const DEVICE_NEEDS_RESET: u8 = 64;
/// The driver has given up.
pub const FAILED: u8 = 128;

/// The order of initialization (§3.1.1).
const ORDER: [u8; 4] = [ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK];

/// The register's value, without DEVICE_NEEDS_RESET, which belongs to [`super::fault::Fault`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status(u8);

/// What a write asks of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing.
    None,
    /// Forget everything, stop every queue.
    Reset,
    /// Features are final.
    Agreed,
    /// Serve the queues.
    Live,
}

impl Status {
    /// The bits as the driver reads them.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// True while the driver may choose features.
    pub fn choosing(self) -> bool {
        self.0 & (DRIVER | FEATURES_OK) == DRIVER
    }

    /// True while the driver may set queues up.
    pub fn settling(self) -> bool {
        self.0 & (FEATURES_OK | DRIVER_OK) == FEATURES_OK
    }

    /// True from DRIVER_OK to reset.
    pub fn live(self) -> bool {
        self.0 & DRIVER_OK != 0
    }

    /// The driver writes `value`; `acceptable` says whether its features are.
    pub fn write(self, value: u8, acceptable: bool) -> (Status, Event) {
        if value == 0 {
            return (Status(0), Event::Reset);
        }
        let value = value & !DEVICE_NEEDS_RESET;
        if self.0 & !value != 0 {
            return (self, Event::None);
        }
        let mut bits = self.0 | value & FAILED;
        let mut event = Event::None;
        for step in ORDER {
            if bits & step != 0 {
                continue;
            }
            if value & step == 0 || step == FEATURES_OK && !acceptable {
                break;
            }
            bits |= step;
            event = match step {
                FEATURES_OK => Event::Agreed,
                DRIVER_OK => Event::Live,
                _ => event,
            };
        }
        (Status(bits), event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(writes: &[u8]) -> (u8, Event) {
        let last = writes.iter().fold((Status::default(), Event::None), |(s, _), &w| s.write(w, true));
        (last.0.bits(), last.1)
    }

    #[test]
    fn the_road_that_every_driver_takes() {
        assert_eq!(after(&[1]), (1, Event::None));
        assert_eq!(after(&[1, 3]), (3, Event::None));
        assert_eq!(after(&[1, 3, 11]), (11, Event::Agreed));
        assert_eq!(after(&[1, 3, 11, 15]), (15, Event::Live));
        assert_eq!(after(&[1, 3, 11, 15, 15]), (15, Event::None), "live once");
        assert_eq!(after(&[1, 3, 11, 15, 0]), (0, Event::Reset));
    }

    #[test]
    fn nobody_skips_a_step() {
        assert_eq!(after(&[2]), (0, Event::None));
        assert_eq!(after(&[1, 3, 7]), (3, Event::None));
        assert_eq!(after(&[15]), (15, Event::Live), "all in order in one write");
    }

    #[test]
    fn features_refused_keep_the_device_down() {
        let (status, event) = Status(3).write(15, false);
        assert_eq!((status.bits(), event), (3, Event::None));
    }

    /// The machine is finite, so this is all of it: each state that any sequence of writes reaches, with
    /// features that hold and that don't, and each write.
    #[test]
    fn every_write_in_every_state() {
        let road = [0, 1, 3, 11, 15];
        let (mut reached, mut next_up) = (vec![Status::default()], 0);
        while let Some(&state) = reached.get(next_up) {
            next_up += 1;
            for (value, acceptable) in (0..=255_u8).flat_map(|value| [(value, false), (value, true)]) {
                let (next, event) = state.write(value, acceptable);
                let case = format!("{:#x} {value:#x} {acceptable}", state.0);
                assert_eq!(value == 0, event == Event::Reset, "{case}");
                if value == 0 {
                    assert_eq!(next, Status::default(), "{case}");
                    continue;
                }
                let new = next.0 & !state.0;
                assert_eq!(next.0 & state.0, state.0, "only zero clears: {case}");
                assert_eq!(new & !value, 0, "nothing that wasn't written: {case}");
                assert!(road.contains(&(next.0 & !FAILED)), "off the road: {case}");
                assert!(new & FEATURES_OK == 0 || acceptable, "features that don't hold: {case}");
                assert_eq!(event == Event::Live, new & DRIVER_OK != 0, "{case}");
                assert_eq!(event == Event::Agreed, new & (FEATURES_OK | DRIVER_OK) == FEATURES_OK, "{case}");
                assert!(!next.live() || next.0 & FEATURES_OK != 0, "live without features: {case}");
                assert!(!(next.choosing() && next.settling() || next.settling() && next.live()), "{case}");
                if !reached.contains(&next) {
                    reached.push(next);
                }
            }
        }
        // The road, with and without FAILED.
        assert_eq!(reached.len(), 2 * road.len());
    }
}
