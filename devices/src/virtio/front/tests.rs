//! Every sequence of a driver's writes, up to a length, against the rules of virtio 1.2 §2.1 and §3.1.

use std::sync::{Arc, Mutex, PoisonError};

use super::*;
use crate::testing::machine;
use crate::virtio::backend::{BackendError, QueueBackend};
use crate::virtio::interrupt::Silent;
use crate::virtio::status::{ACKNOWLEDGE, DRIVER, DRIVER_OK, FAILED, FEATURES_OK};

const VERSION_1: u64 = 1 << VIRTIO_F_VERSION_1;
const EVENT_IDX: u64 = 1 << VIRTIO_RING_F_EVENT_IDX;
/// Nobody offers it.
const FOREIGN: u64 = 1 << 63;

/// What a backend was told.
#[derive(Default)]
struct Told {
    /// The queues that it serves, and the features.
    serves: Option<(Vec<QueueResources>, u64)>,
    starts: u32,
    /// Features that the device was told of.
    agreed: Option<u64>,
    /// It takes its time to stop.
    slow: bool,
}

/// A device, and its backend, that remember.
struct Spy(Arc<Mutex<Told>>);

impl QueueBackend for Spy {
    fn data_path(&self) -> DataPath {
        DataPath::Userspace
    }
    fn features(&self) -> u64 {
        !FOREIGN
    }
    fn start(&mut self, queues: Vec<QueueResources>, acked: u64) -> Result<(), BackendError> {
        let mut told = lock(&self.0);
        assert!(told.serves.is_none(), "started twice");
        told.serves = Some((queues, acked));
        told.starts += 1;
        Ok(())
    }
    fn stop(&mut self) -> Vec<QueueResources> {
        lock(&self.0).serves.take().map_or(Vec::new(), |(queues, _)| queues)
    }
    fn stop_soon(&mut self) -> bool {
        self.stopped() && self.stop().len() < 2
    }
    fn stopped(&mut self) -> bool {
        !lock(&self.0).slow
    }
}

impl Device for Spy {
    fn name(&self) -> &str {
        "spy.0"
    }
    fn kind(&self) -> Kind {
        Kind::RNG
    }
    fn features(&self) -> u64 {
        0
    }
    fn queue_sizes(&self) -> &[u16] {
        &[8]
    }
    fn config(&self) -> &[u8] {
        &[]
    }
    fn agreed(&mut self, features: u64) {
        lock(&self.0).agreed = Some(features);
    }
    fn backend(&mut self) -> &mut dyn QueueBackend {
        self
    }
}

fn lock(told: &Mutex<Told>) -> std::sync::MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a driver may do.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Status(u8),
    /// Chooses all 64 bits.
    Accept(u64),
    /// Sets the queue up and enables it.
    Enable,
    Kick,
    /// The ring that is served turns out to make no sense.
    Break,
}

const ALL: u8 = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK;
const DEEDS: [Deed; 15] = [
    Deed::Status(0),
    Deed::Status(ACKNOWLEDGE),
    Deed::Status(DRIVER),
    Deed::Status(ACKNOWLEDGE | DRIVER),
    Deed::Status(ACKNOWLEDGE | DRIVER | FEATURES_OK),
    Deed::Status(ACKNOWLEDGE | DRIVER | DRIVER_OK),
    Deed::Status(ALL),
    Deed::Status(ALL | FAILED),
    Deed::Status(ALL | DEVICE_NEEDS_RESET),
    Deed::Accept(VERSION_1 | EVENT_IDX),
    Deed::Accept(EVENT_IDX),
    Deed::Accept(VERSION_1 | FOREIGN),
    Deed::Enable,
    Deed::Kick,
    Deed::Break,
];

/// The rules, as simply as they can be said.
#[derive(Clone, Copy, Default)]
struct Model {
    status: u8,
    acked: u64,
    enabled: bool,
    broken: bool,
}

impl Model {
    fn follow(self, deed: Deed) -> Model {
        let mut next = self;
        match deed {
            Deed::Status(0) => return Model::default(),
            // Only a reset takes a bit away (§2.1.1).
            Deed::Status(value) if self.status & !value & !DEVICE_NEEDS_RESET != 0 => {}
            Deed::Status(value) => {
                let fits = self.acked == VERSION_1 | EVENT_IDX;
                next.status |= value & FAILED;
                for bit in [ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK] {
                    let granted = value & bit != 0 && (bit != FEATURES_OK || fits || next.status & bit != 0);
                    if !granted {
                        break;
                    }
                    next.status |= bit;
                }
            }
            Deed::Accept(bits) if self.status & (DRIVER | FEATURES_OK) == DRIVER => next.acked = bits,
            Deed::Enable if self.status & (FEATURES_OK | DRIVER_OK) == FEATURES_OK => next.enabled = true,
            Deed::Break if self.status & DRIVER_OK != 0 && self.enabled => next.broken = true,
            _ => {}
        }
        next
    }
}

fn perform(front: &mut Front, told: &Mutex<Told>, deed: Deed) {
    match deed {
        Deed::Status(value) => {
            let change = front.write_status(value, |_| Arc::new(Silent));
            assert_eq!(
                change == Change::Reset,
                value == 0,
                "a reset is always possible, and nothing else is one"
            );
        }
        Deed::Accept(bits) => {
            for half in [0, 1] {
                front.driver_half = half;
                front.accept((bits >> (32 * half)) as u32);
            }
        }
        Deed::Enable => {
            if let Some(queue) = front.settle() {
                queue.set_size(8);
                let layout = &mut queue.layout;
                (layout.descriptors, layout.available, layout.used) = (0x1000, 0x2000, 0x3000);
                queue.enabled = true;
            }
        }
        Deed::Kick => front.kick(0),
        Deed::Break => {
            if let Some((queues, _)) = &lock(told).serves
                && let Some(queue) = queues.first()
            {
                queue.fault.raise(&"the ring makes no sense");
            }
        }
    }
}

#[test]
fn every_sequence_of_deeds_keeps_the_rules() {
    const DEPTH: u32 = 4;
    let told = Arc::new(Mutex::new(Told::default()));
    let mut front = Front::new(Box::new(Spy(told.clone())), machine::memory(), true).unwrap();
    // Before each, what brings it to a state that is worth the walk: as far as DRIVER, as FEATURES_OK, live.
    let roads: [&[Deed]; 4] = [
        &[],
        &[Deed::Status(3), Deed::Accept(VERSION_1 | EVENT_IDX)],
        &[Deed::Status(3), Deed::Accept(VERSION_1 | EVENT_IDX), Deed::Status(11), Deed::Enable],
        &[
            Deed::Status(3),
            Deed::Accept(VERSION_1 | EVENT_IDX),
            Deed::Status(11),
            Deed::Enable,
            Deed::Status(15),
        ],
    ];
    for road in roads {
        for number in 0..DEEDS.len().pow(DEPTH) {
            let walk = (0..DEPTH).map(|at| DEEDS[number / DEEDS.len().pow(at) % DEEDS.len()]);
            perform(&mut front, &told, Deed::Status(0));
            lock(&told).starts = 0;
            let (mut model, mut lives) = (Model::default(), 0);
            for deed in road.iter().copied().chain(walk) {
                let before = model;
                model = model.follow(deed);
                lives += u32::from(model.status & !before.status & DRIVER_OK != 0);
                let kicks = front.queues[0].counters.kick_exits.get();
                perform(&mut front, &told, deed);
                let said = || format!("walk {number} after {road:?}: {deed:?}");
                let needs_reset = if model.broken { DEVICE_NEEDS_RESET } else { 0 };
                assert_eq!(front.status(), model.status | needs_reset, "{}", said());
                assert_eq!(front.acked, model.acked, "{}", said());
                assert_eq!(front.queues[0].enabled, model.enabled, "{}", said());
                let live = model.status & DRIVER_OK != 0;
                let kicked = front.queues[0].counters.kick_exits.get() - kicks;
                assert_eq!(kicked, u64::from(live && matches!(deed, Deed::Kick)), "{}", said());
                let told = lock(&told);
                // No queue is served before DRIVER_OK, or after a reset; each time once (§3.1.1).
                assert_eq!(told.serves.is_some(), live, "{}", said());
                assert_eq!(told.starts, lives, "{}", said());
                if let Some((queues, acked)) = &told.serves {
                    assert_eq!(
                        (queues.len(), *acked),
                        (model.enabled.into(), VERSION_1 | EVENT_IDX),
                        "{}",
                        said()
                    );
                }
                // The device hears of no features but those that hold (§2.2).
                if model.status & FEATURES_OK != 0 {
                    assert_eq!(told.agreed, Some(model.acked), "{}", said());
                }
            }
        }
    }
}

#[test]
fn a_reset_that_takes_its_time_is_not_complete_until_then() {
    let told = Arc::new(Mutex::new(Told::default()));
    let mut front = Front::new(Box::new(Spy(told.clone())), machine::memory(), true).unwrap();
    let bring_up = |front: &mut Front| {
        for deed in [
            Deed::Status(3),
            Deed::Accept(VERSION_1 | EVENT_IDX),
            Deed::Status(11),
            Deed::Enable,
            Deed::Status(15),
        ] {
            perform(front, &told, deed);
        }
        assert_eq!((front.status(), lock(&told).serves.is_some()), (15, true));
    };
    bring_up(&mut front);
    lock(&told).slow = true;
    for _ in 0..2 {
        perform(&mut front, &told, Deed::Status(0));
        assert_eq!((front.status(), front.live(), front.queues[0].enabled), (15, false, false));
    }
    perform(&mut front, &told, Deed::Kick);
    assert_eq!(front.queues[0].counters.kick_exits.get(), 0);
    *lock(&told) = Told::default();
    assert_eq!(front.status(), 0);
    // A driver that goes on without a look finds it complete.
    bring_up(&mut front);
    lock(&told).slow = true;
    perform(&mut front, &told, Deed::Status(0));
    perform(&mut front, &told, Deed::Status(ACKNOWLEDGE));
    assert!(lock(&told).serves.is_none());
    assert_eq!(front.status(), ACKNOWLEDGE);
}
