//! Input through the main loop into a serial port whose guest is played here.

use std::fs::File;
use std::io::{Write, pipe};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::thread;

use devices::bus::Registers;
use devices::serial::Serial;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use vmm_sys_util::tempfile::TempFile;

use super::*;
use crate::run::console::Wire;
use crate::sandbox::Sandbox;

struct Rig {
    ended: EventFd,
    signals: Signals,
    console: Console,
    serial: Arc<Mutex<Serial>>,
}

fn rig(input: impl Into<OwnedFd>) -> Rig {
    let signals = Signals::take().unwrap();
    let wire = Wire::between(File::create("/dev/null").unwrap(), Some(File::from(input.into()))).unwrap();
    let irq = EventFd::new(EFD_NONBLOCK).unwrap();
    let serial = Arc::new(Mutex::new(Serial::new(irq, wire.line().unwrap())));
    let mut console = wire.connect(serial.clone(), &signals).unwrap();
    console.start(&Sandbox::open()).unwrap();
    Rig { ended: EventFd::new(EFD_NONBLOCK).unwrap(), signals, console, serial }
}

impl Rig {
    /// Runs the main loop while a guest polls the port until it has read `count` bytes.
    fn read(&mut self, count: usize) -> Vec<u8> {
        let (serial, ended) = (self.serial.clone(), self.ended.try_clone().unwrap());
        let guest = thread::spawn(move || {
            let mut got = Vec::new();
            serial.lock().unwrap().write(4, &[2]);
            while got.len() < count {
                let (mut status, mut byte) = ([0], [0]);
                let mut port = serial.lock().unwrap();
                port.read(5, &mut status);
                if status[0] & 1 != 0 {
                    port.read(0, &mut byte);
                    got.push(byte[0]);
                } else {
                    drop(port);
                    thread::yield_now();
                }
            }
            ended.write(1).unwrap();
            got
        });
        assert_eq!(self.run(None), End::Machine);
        guest.join().unwrap()
    }

    fn run(&mut self, deadline: Option<Instant>) -> End {
        let Rig { ended, signals, console, .. } = self;
        let settling = Settling::new(Arc::default());
        Supervisor { ended, signals, console: Some(console), deadline, watch: None, settling }.run().unwrap()
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

#[test]
fn a_pipe_larger_than_every_buffer_arrives_whole() {
    let (near, mut far) = pipe().unwrap();
    let sent = pattern(300_000);
    let copy = sent.clone();
    let writer = thread::spawn(move || far.write_all(&copy).unwrap());
    assert!(rig(near).read(sent.len()) == sent);
    writer.join().unwrap();
}

#[test]
fn a_regular_file_arrives_whole_though_epoll_refuses_it() {
    let sent = pattern(100_000);
    let mut file = TempFile::new().unwrap().into_file();
    file.write_all(&sent).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    assert!(rig(file).read(sent.len()) == sent);
}

#[test]
fn the_end_of_input_is_no_event() {
    for mut rig in [rig(File::open("/dev/null").unwrap()), rig(pipe().unwrap().0)] {
        let deadline = Instant::now() + Duration::from_millis(20);
        assert_eq!(rig.run(Some(deadline)), End::Timeout);
        assert!(Instant::now() >= deadline);
        let summary = rig.console.finish(&rig.signals);
        assert_eq!((summary.traffic.received, summary.dropped), (0, 0));
    }
}
