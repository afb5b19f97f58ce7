//! A console behind its transport; a vector is the line.

use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::line::{Line, Port, Traffic};
use crate::testing::bringup::{Rig, until};
use crate::testing::hostile;

const BUFFER: u64 = 0x20_0000;

#[derive(Clone, Default)]
struct Paper(Arc<Mutex<(Vec<u8>, u32)>>);

impl Line for Paper {
    fn transmit(&mut self, byte: u8) {
        self.0.lock().unwrap().0.push(byte);
    }
    fn room(&mut self) {
        self.0.lock().unwrap().1 += 1;
    }
}

fn rig(size: Option<(u16, u16)>) -> (Rig, Arc<Mutex<ConsolePort>>, Paper) {
    let paper = Paper::default();
    let port = Arc::new(Mutex::new(ConsolePort::new(Box::new(paper.clone())).unwrap()));
    let mut rig = Rig::new(Box::new(Console::new(port.clone(), size, Tuning::default())), false);
    rig.bring_up(16, 0);
    (rig, port, paper)
}

fn say(rig: &mut Rig, text: &[u8]) {
    rig.memory.write_slice(text, GuestAddress(BUFFER)).unwrap();
    let head = rig.drivers[1].chain(&[(BUFFER, text.len() as u32)], &[]);
    rig.drivers[1].offer(head);
    rig.kick(1);
    assert_eq!(rig.wait(1), (head, 0));
}

fn listen(rig: &mut Rig, buffers: u64, len: u32) {
    for i in 0..buffers {
        let head = rig.drivers[0].chain(&[], &[(BUFFER + 0x1000 * i, len)]);
        rig.drivers[0].offer(head);
    }
    rig.kick(0);
}

#[test]
fn what_the_guest_says_is_on_the_line_in_order() {
    let (mut rig, port, paper) = rig(Some((132, 43)));
    assert_eq!((rig.load(0x800, 2), rig.load(0x802, 2)), (132, 43));
    let long: Vec<u8> = (0..3000).map(|i| i as u8).collect();
    say(&mut rig, b"login: ");
    say(&mut rig, &long);
    assert_eq!(paper.0.lock().unwrap().0, [b"login: ", &long[..]].concat());
    assert_eq!(port.lock().unwrap().traffic(), Traffic { sent: 3007, received: 0 });
    rig.bus.lock().unwrap().quiesce();
    let queue = rig.bus.lock().unwrap().counts()[0].queues[1];
    assert_eq!(
        (queue.kicks, queue.chains, queue.bytes),
        (2, 2, 3007),
        "a kick for each piece, not each byte"
    );
}

#[test]
fn keys_wait_for_the_guest_and_fill_its_buffers() {
    let (mut rig, port, _) = rig(None);
    assert_eq!(rig.offered() & 1 << SIZE, 0);
    assert_eq!(port.lock().unwrap().push(b"root\n"), 5);
    listen(&mut rig, 2, 3);
    assert_eq!([rig.wait(0).1, rig.wait(0).1], [3, 2]);
    let mut got = [0; 3];
    rig.memory.read_slice(&mut got, GuestAddress(BUFFER)).unwrap();
    assert_eq!(&got, b"roo");
    // It waits for keys now, and wants no kick for buffers.
    listen(&mut rig, 1, 64);
    assert_eq!(port.lock().unwrap().push(b"x"), 1);
    assert_eq!(rig.wait(0).1, 1);
    assert_eq!(port.lock().unwrap().traffic().received, 6);
}

#[test]
fn a_full_queue_says_when_it_has_room() {
    let (mut rig, port, paper) = rig(None);
    assert_eq!(port.lock().unwrap().push(&[b'k'; 5000]), 4096);
    assert_eq!(port.lock().unwrap().space(), 0);
    listen(&mut rig, 1, 2000);
    rig.wait(0);
    assert_eq!(paper.0.lock().unwrap().1, 0, "more than half is left");
    listen(&mut rig, 1, 2000);
    rig.wait(0);
    until(|| (paper.0.lock().unwrap().1 == 1).then_some(()));
    assert_eq!(port.lock().unwrap().space(), 4000);
}

#[test]
fn whatever_the_driver_does_it_serves_again() {
    let (rig, port, _) = rig(None);
    // So that buffers for input are looked at.
    port.lock().unwrap().push(&[b'k'; 4096]);
    hostile::play(rig, |rig| {
        say(rig, b"alive");
        port.lock().unwrap().push(&[b'k'; 4096]);
        listen(rig, 1, 1);
        assert_eq!(rig.wait(0).1, 1);
    });
}
