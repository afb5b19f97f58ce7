//! The port as a driver sees it: the sequences are those of Linux's 8250 driver.

use std::sync::{Arc, Mutex};

use vmm_sys_util::eventfd::EFD_NONBLOCK;

use super::*;

#[derive(Clone, Default)]
struct Far(Arc<Mutex<(Vec<u8>, usize)>>);

impl Line for Far {
    fn transmit(&mut self, byte: u8) {
        self.0.lock().unwrap().0.push(byte);
    }
    fn room(&mut self) {
        self.0.lock().unwrap().1 += 1;
    }
}

struct Rig {
    port: Serial,
    irq: EventFd,
    far: Far,
}

impl Rig {
    fn new() -> Rig {
        let (irq, far) = (EventFd::new(EFD_NONBLOCK).unwrap(), Far::default());
        Rig { port: Serial::new(irq.try_clone().unwrap(), Box::new(far.clone())), irq, far }
    }
    fn get(&mut self, offset: u64) -> u8 {
        let mut byte = [0];
        self.port.read(offset, &mut byte);
        byte[0]
    }
    fn put(&mut self, offset: u64, value: u8) {
        assert_eq!(self.port.write(offset, &[value]), Effect::None);
    }
    /// Interrupt edges since last asked.
    fn edges(&self) -> u64 {
        self.irq.read().unwrap_or(0)
    }
}

#[test]
fn linux_takes_it_for_a_16550a() {
    let mut rig = Rig::new();
    rig.put(1, 0);
    assert_eq!(rig.get(1) & 0xf, 0);
    rig.put(1, 0xf);
    assert_eq!(rig.get(1), 0xf);
    rig.put(1, 0);
    rig.put(4, MCR_LOOP | 0xa);
    assert_eq!(rig.get(6) & 0xf0, 0x90);
    rig.put(4, 0);
    rig.put(2, FCR_ENABLE);
    assert_eq!(rig.get(2) >> 6, 3);
    // Not a 16650 (EFR reads other than zero), not a 16750 (bit 5 stays clear).
    rig.put(3, 0xbf);
    assert_ne!(rig.get(2), 0);
    rig.put(2, FCR_ENABLE | 0x20);
    assert_eq!(rig.get(2) >> 5, 6);
}

#[test]
fn one_edge_serves_a_burst_and_enabling_raises_it_again() {
    let mut rig = Rig::new();
    rig.put(2, FCR_ENABLE);
    rig.put(1, IER_TRANSMIT);
    assert_eq!(rig.edges(), 1);
    assert_eq!(rig.get(2), IIR_FIFO | IIR_TRANSMIT);
    assert_eq!(rig.get(2), IIR_FIFO | IIR_NONE, "reading IIR clears the cause");
    for byte in b"sixteen bytes ok" {
        rig.put(0, *byte);
    }
    assert_eq!((rig.edges(), rig.get(5)), (1, LSR_IDLE));
    rig.get(2);
    rig.put(1, 0);
    rig.put(1, IER_TRANSMIT);
    assert_eq!(rig.edges(), 1, "Linux's test for UART_BUG_THRE");
    assert_eq!(rig.far.0.lock().unwrap().0, b"sixteen bytes ok");
    assert_eq!(rig.port.traffic().sent, 16);
}

#[test]
fn input_waits_for_a_listener_and_survives_the_open() {
    let mut rig = Rig::new();
    assert_eq!(rig.port.push(b"ls\n"), 3);
    // serial8250_do_startup: clear the FIFOs, read everything, then enable.
    for fcr in [1, 7, 0] {
        rig.put(2, fcr);
    }
    assert_eq!((rig.get(5), rig.get(0)), (LSR_IDLE, 0));
    rig.put(1, IER_RECEIVE | IER_LINE);
    rig.put(2, FCR_ENABLE | 0x80);
    rig.put(4, 0xb);
    assert_eq!(rig.edges(), 1);
    assert_eq!(rig.get(2), IIR_FIFO | IIR_TIMEOUT);
    let mut read = Vec::new();
    while rig.get(5) & LSR_DATA != 0 {
        read.push(rig.get(0));
    }
    assert_eq!(read, b"ls\n");
    assert_eq!(rig.get(2), IIR_FIFO | IIR_NONE);
    rig.port.push(b"next");
    assert_eq!(rig.edges(), 1);
    // Flow control: RTS down, line closed, though the interrupt is still enabled.
    rig.put(4, 0x9);
    assert_eq!(rig.get(5), LSR_IDLE);
    assert_eq!(rig.port.traffic().received, 3);
}

#[test]
fn a_full_queue_says_when_it_has_room() {
    let mut rig = Rig::new();
    rig.put(4, MCR_RTS);
    assert_eq!(rig.port.push(&[7; 5000]), QUEUE);
    assert_eq!((rig.port.space(), rig.port.push(b"x")), (0, 0));
    for _ in 0..QUEUE / 2 {
        assert_eq!(rig.far.0.lock().unwrap().1, 0);
        rig.get(0);
    }
    assert_eq!(rig.far.0.lock().unwrap().1, 1);
    while rig.get(5) & LSR_DATA != 0 {
        rig.get(0);
    }
    assert_eq!(rig.far.0.lock().unwrap().1, 1, "told once");
}

#[test]
fn loopback_keeps_to_itself_and_overruns_at_its_depth() {
    let mut rig = Rig::new();
    rig.port.push(b"outside");
    rig.put(2, FCR_ENABLE);
    rig.put(1, IER_LINE);
    rig.put(4, MCR_LOOP | MCR_RTS);
    for byte in 0..20 {
        rig.put(0, byte);
    }
    assert_eq!((rig.edges(), rig.get(2)), (1, IIR_FIFO | IIR_LINE));
    assert_eq!(rig.get(5), LSR_IDLE | LSR_OVERRUN | LSR_DATA);
    for byte in 0..16 {
        assert_eq!(rig.get(0), byte);
    }
    assert_eq!(rig.get(5), LSR_IDLE);
    assert!(rig.far.0.lock().unwrap().0.is_empty());
}

#[test]
fn any_size_at_any_offset() {
    let mut rig = Rig::new();
    for offset in 0..12 {
        for len in 0..9 {
            rig.port.write(offset, &vec![0xa5; len]);
            rig.port.read(offset, &mut vec![0; len]);
        }
    }
    rig.put(3, 0);
    rig.port.write(6, &[0, 0x5a]);
    assert_eq!(rig.get(7), 0x5a);
    rig.put(3, LCR_DLAB);
    rig.port.write(0, &[0x34, 0x12]);
    assert_eq!((rig.get(0), rig.get(1)), (0x34, 0x12));
    assert_eq!((rig.port.register(0, true), rig.port.register(1, false)), ("DLL", "DLM"));
    rig.put(3, 3);
    assert_eq!((rig.port.register(0, true), rig.port.register(0, false)), ("THR", "RBR"));
}
