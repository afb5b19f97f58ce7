use std::sync::Mutex;
use std::time::Instant;

use super::*;
use crate::sys::Memory;
use crate::testing::machine::memory;

const SIZE: u16 = 8;

struct Wire(EventFd);

impl crate::virtio::interrupt::Interrupt for Wire {
    fn signal(&self) {
        self.0.write(1).unwrap();
    }
    fn event(&self) -> Option<&EventFd> {
        Some(&self.0)
    }
}

fn indices(memory: &Memory, base: u64) -> Indices {
    let window = |offset| Window::new(memory, base + offset, 256, 4).unwrap();
    Indices { available: window(0), used: window(0x1000), size: SIZE }
}

/// vhost, and a driver that has its buffers back when a frame comes in.
struct Rig {
    send: Indices,
    receive: Indices,
    said: Arc<EventFd>,
    wire: Arc<Wire>,
    /// What vhost was made to do.
    direct: Arc<Mutex<Vec<bool>>>,
    counters: Arc<Counters>,
    sent: Option<Sent>,
}

impl Rig {
    fn new() -> Rig {
        let memory = memory();
        let both = || (indices(&memory, 0x10_000), indices(&memory, 0x20_000));
        let (said, wire) = (EventFd::new(EFD_NONBLOCK).unwrap(), EventFd::new(EFD_NONBLOCK).unwrap());
        let (said, wire) = (Arc::new(said), Arc::new(Wire(wire)));
        let (direct, counters) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Counters::default()));
        let (send, receive) = both();
        let told = direct.clone();
        let between = Between {
            send,
            receive,
            said: said.clone(),
            call: wire.clone(),
            counters: counters.clone(),
            direct: Box::new(move |direct| {
                told.lock().unwrap().push(direct);
                Ok(())
            }),
            busy: None,
            stop: Arc::new(EventFd::new(EFD_NONBLOCK).unwrap()),
        };
        let sent = Some(Sent::spawn("net.0", between, Arc::new(|_, _| ())).unwrap());
        let (send, receive) = both();
        Rig { send, receive, said, wire, direct, counters, sent }
    }

    fn used(indices: &Indices) {
        indices.used.store(2, indices.used().wrapping_add(1), Ordering::Release);
    }

    /// A frame goes out, of which the driver wants to know.
    fn sends(&self) {
        Rig::used(&self.send);
        self.said.write(1).unwrap();
    }

    /// A frame comes in: the driver takes its buffers, and asks for the next one.
    fn receives(&self) {
        Rig::used(&self.receive);
        let event = 4 + 2 * usize::from(SIZE);
        self.send.available.store(event, self.send.used(), Ordering::Release);
    }

    fn raised(&self) -> u64 {
        self.wire.0.read().unwrap_or(0)
    }
}

#[test]
fn answered_frames_raise_no_interrupt() {
    let rig = Rig::new();
    const FRAMES: u64 = 400;
    for _ in 0..FRAMES {
        rig.sends();
        std::thread::sleep(Duration::from_micros(50));
        rig.receives();
    }
    std::thread::sleep(LONG * 3);
    // Before the first nothing has come in; a busy host keeps the driver from its buffers now and then.
    let raised = rig.raised();
    assert!(raised * 4 <= FRAMES, "{raised}");
}

#[test]
fn a_sender_that_nobody_answers_is_told_and_then_by_vhost_itself() {
    let rig = Rig::new();
    for round in 1..=u64::from(VAIN) {
        rig.sends();
        let end = Instant::now() + Duration::from_secs(10);
        while rig.counters.interrupts.get() < round {
            assert!(Instant::now() < end, "it is told");
            std::thread::sleep(Duration::from_micros(100));
        }
        // It takes its buffers, and asks again.
        rig.send.available.store(4 + 2 * usize::from(SIZE), rig.send.used(), Ordering::Release);
    }
    assert_eq!(rig.raised(), u64::from(VAIN));
    let end = Instant::now() + Duration::from_secs(10);
    // It is held again when none are sent any more.
    while *rig.direct.lock().unwrap() != [true, false] {
        assert!(Instant::now() < end, "{:?}", rig.direct);
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn what_was_held_is_told_when_the_queues_stop() {
    let mut rig = Rig::new();
    Rig::used(&rig.receive);
    rig.sends();
    let counts = rig.sent.take().unwrap().stop();
    assert!(rig.raised() >= 1);
    assert_eq!(counts.name, "net0sent");
}

#[test]
fn a_driver_that_does_not_take_them_is_left_to_vhost_for_longer_each_time() {
    let mut rule = Rule::new();
    let mut times = Vec::new();
    for _ in 0..8 * VAIN {
        times.extend(rule.looked(true));
    }
    assert_eq!(times[..3], [FIRST, FIRST * 2, FIRST * 4]);
    assert_eq!(times[7], LONGEST);
    assert_eq!(rule.looked(false), None);
    assert_eq!(rule.wait, SHORT * 2);
    assert_eq!((0..VAIN).filter_map(|_| rule.looked(true)).next(), Some(FIRST));
    assert_eq!(rule.wait, SHORT);
    (0..9).for_each(|_| assert_eq!(rule.looked(false), None));
    assert_eq!(rule.wait, LONG);
}
