//! A 16550A serial port (National Semiconductor PC16550D data sheet, June 1995).
//!
//! What it answers is chosen so that a byte costs the guest one exit:
//!
//! - **Transmit.** The FIFO drains into the [`Line`] at once, so LSR always says "empty": Linux
//!   stores 16 bytes for one look at LSR. One interrupt edge serves a whole burst, because the
//!   transmitter-empty cause stays pending until the guest reads IIR.
//! - **Receive.** Input waits in a queue on the host side and crosses the line when the guest reads
//!   RBR, so nothing can overrun, and a driver that clears its FIFO at open loses nothing. The line
//!   honours RTS: it holds until the guest raises it (or, in a guest that never touches RTS, until
//!   it enables the receive interrupt), and whenever the guest drops it.
//!
//! The modem lines CTS, DSR and DCD are always on, so there is no modem status interrupt.

use std::collections::VecDeque;

use vmm_sys_util::eventfd::EventFd;

use crate::bus::{Effect, Registers};
use crate::line::{Line, Port, Traffic};

#[cfg(test)]
mod tests;

/// Interrupt enables (IER).
const IER_RECEIVE: u8 = 1;
const IER_TRANSMIT: u8 = 1 << 1;
const IER_LINE: u8 = 1 << 2;
const IER_MASK: u8 = 0xf;

/// Interrupt identification (IIR, table 4 of the data sheet), highest priority first.
const IIR_LINE: u8 = 0x6;
const IIR_RECEIVE: u8 = 0x4;
const IIR_TIMEOUT: u8 = 0xc;
const IIR_TRANSMIT: u8 = 0x2;
const IIR_NONE: u8 = 0x1;
const IIR_FIFO: u8 = 0xc0;

const FCR_ENABLE: u8 = 1;
const FCR_CLEAR_RECEIVE: u8 = 1 << 1;

/// Divisor latch access (LCR).
const LCR_DLAB: u8 = 1 << 7;

const MCR_RTS: u8 = 1 << 1;
const MCR_LOOP: u8 = 1 << 4;
const MCR_MASK: u8 = 0x1f;

const LSR_DATA: u8 = 1;
const LSR_OVERRUN: u8 = 1 << 1;
/// THRE and TEMT: the transmitter is always empty.
const LSR_IDLE: u8 = 0x60;

/// CTS, DSR and DCD: somebody is at the other end.
const MSR_CONNECTED: u8 = 0xb0;

/// Bytes of the FIFO.
const FIFO: usize = 16;
/// Bytes of input that wait on the host side.
const QUEUE: usize = 4096;

/// The serial port.
pub struct Serial {
    irq: EventFd,
    line: Box<dyn Line>,
    ier: u8,
    fcr: u8,
    lcr: u8,
    mcr: u8,
    scr: u8,
    divisor: [u8; 2],
    overrun: bool,
    /// The transmitter-empty cause; IIR clears it.
    emptied: bool,
    /// The guest has raised RTS before: from then on RTS alone opens the line.
    rts_used: bool,
    /// Input from the host.
    queue: VecDeque<u8>,
    /// The queue has been full, and nobody was told yet that it no longer is.
    full: bool,
    /// What the guest sent to itself in loopback.
    looped: VecDeque<u8>,
    /// The state of the interrupt pin; an edge up is an interrupt.
    pin: bool,
    traffic: Traffic,
}

impl Serial {
    /// A port whose interrupt pin is `irq` (one write for each rising edge).
    pub fn new(irq: EventFd, line: Box<dyn Line>) -> Serial {
        Serial {
            irq,
            line,
            ier: 0,
            fcr: 0,
            lcr: 0,
            mcr: 0,
            scr: 0,
            // 9600 baud, should anyone ask.
            divisor: [12, 0],
            overrun: false,
            emptied: false,
            rts_used: false,
            queue: VecDeque::new(),
            full: false,
            looped: VecDeque::new(),
            pin: false,
            traffic: Traffic::default(),
        }
    }

    fn dlab(&self) -> bool {
        self.lcr & LCR_DLAB != 0
    }

    fn loopback(&self) -> bool {
        self.mcr & MCR_LOOP != 0
    }

    /// The guest listens to the line.
    fn open(&self) -> bool {
        match self.rts_used {
            true => self.mcr & MCR_RTS != 0,
            false => self.ier & IER_RECEIVE != 0,
        }
    }

    /// Bytes that the guest can read.
    fn readable(&self) -> usize {
        match (self.loopback(), self.open()) {
            (true, _) => self.looped.len(),
            (false, true) => self.queue.len(),
            (false, false) => 0,
        }
    }

    /// Why the pin is up: the identification of the highest cause, or [`IIR_NONE`].
    fn cause(&self) -> u8 {
        let readable = self.readable();
        if self.ier & IER_LINE != 0 && self.overrun {
            IIR_LINE
        } else if self.ier & IER_RECEIVE != 0 && readable > 0 {
            // Below the trigger level it is the timeout that speaks up (§8.4.2).
            if self.fcr & FCR_ENABLE == 0 || readable >= self.trigger() { IIR_RECEIVE } else { IIR_TIMEOUT }
        } else if self.ier & IER_TRANSMIT != 0 && self.emptied {
            IIR_TRANSMIT
        } else {
            IIR_NONE
        }
    }

    /// Receive trigger level, FCR bits 6 and 7.
    fn trigger(&self) -> usize {
        match self.fcr >> 6 {
            0 => 1,
            1 => 4,
            2 => 8,
            _ => 14,
        }
    }

    /// Moves the interrupt pin to where the causes put it.
    fn update(&mut self) {
        let pin = self.cause() != IIR_NONE;
        if pin && !self.pin {
            // Fails only where the counter is full: then the edge is there already.
            let _ = self.irq.write(1);
        }
        self.pin = pin;
    }

    fn transmit(&mut self, byte: u8) {
        if self.loopback() {
            let depth = if self.fcr & FCR_ENABLE != 0 { FIFO } else { 1 };
            if self.looped.len() < depth {
                self.looped.push_back(byte);
            } else {
                self.overrun = true;
            }
        } else {
            self.traffic.sent += 1;
            self.line.transmit(byte);
        }
        self.emptied = true;
    }

    fn receive(&mut self) -> u8 {
        if self.loopback() {
            return self.looped.pop_front().unwrap_or(0);
        }
        if !self.open() {
            return 0;
        }
        let Some(byte) = self.queue.pop_front() else { return 0 };
        self.traffic.received += 1;
        if self.full && self.queue.len() <= QUEUE / 2 {
            self.full = false;
            self.line.room();
        }
        byte
    }

    fn load(&mut self, offset: u64) -> u8 {
        match offset {
            0 | 1 if self.dlab() => self.divisor[offset as usize],
            0 => self.receive(),
            1 => self.ier,
            2 => {
                let cause = self.cause();
                self.emptied &= cause != IIR_TRANSMIT;
                cause | if self.fcr & FCR_ENABLE != 0 { IIR_FIFO } else { 0 }
            }
            3 => self.lcr,
            4 => self.mcr,
            5 => {
                let overrun = if std::mem::take(&mut self.overrun) { LSR_OVERRUN } else { 0 };
                LSR_IDLE | overrun | if self.readable() > 0 { LSR_DATA } else { 0 }
            }
            // In loopback the four outputs are the four inputs (§8.6.6): RTS is CTS, DTR is DSR.
            6 if self.loopback() => {
                let (dtr, rts, out1, out2) =
                    (self.mcr & 1, self.mcr >> 1 & 1, self.mcr >> 2 & 1, self.mcr >> 3 & 1);
                rts << 4 | dtr << 5 | out1 << 6 | out2 << 7
            }
            6 => MSR_CONNECTED,
            7 => self.scr,
            _ => 0xff,
        }
    }

    fn store(&mut self, offset: u64, value: u8) {
        match offset {
            0 | 1 if self.dlab() => self.divisor[offset as usize] = value,
            0 => self.transmit(value),
            1 => {
                // Enabling the interrupt of a transmitter that is empty raises it (§8.4.2); Linux
                // takes a UART that doesn't for a broken one and polls it with a timer.
                self.emptied |= value & !self.ier & IER_TRANSMIT != 0;
                self.ier = value & IER_MASK;
            }
            2 => {
                if value & FCR_CLEAR_RECEIVE != 0 || (value ^ self.fcr) & FCR_ENABLE != 0 {
                    self.looped.clear();
                }
                // Without its lowest bit no other bit of FCR is programmed (§8.5).
                self.fcr = if value & FCR_ENABLE != 0 { value } else { 0 };
            }
            3 => self.lcr = value,
            4 => {
                self.mcr = value & MCR_MASK;
                self.rts_used |= !self.loopback() && value & MCR_RTS != 0;
                if !self.loopback() {
                    self.looped.clear();
                }
            }
            7 => self.scr = value,
            // LSR and MSR are read-only.
            _ => {}
        }
    }
}

impl Port for Serial {
    fn space(&self) -> usize {
        QUEUE - self.queue.len()
    }

    fn push(&mut self, input: &[u8]) -> usize {
        let taken = input.len().min(self.space());
        self.queue.extend(&input[..taken]);
        self.full |= self.space() == 0;
        self.update();
        taken
    }

    fn traffic(&self) -> Traffic {
        self.traffic
    }
}

impl Registers for Serial {
    fn name(&self) -> String {
        "serial.0".into()
    }

    fn register(&self, offset: u64, write: bool) -> &'static str {
        match (offset, write) {
            (0, _) if self.dlab() => "DLL",
            (1, _) if self.dlab() => "DLM",
            (0, false) => "RBR",
            (0, true) => "THR",
            (1, _) => "IER",
            (2, false) => "IIR",
            (2, true) => "FCR",
            (3, _) => "LCR",
            (4, _) => "MCR",
            (5, _) => "LSR",
            (6, _) => "MSR",
            (7, _) => "SCR",
            _ => "none",
        }
    }

    /// A wide load is split into bytes at consecutive offsets, as the ISA bus does.
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        for (offset, byte) in (offset..).zip(data) {
            *byte = self.load(offset);
        }
        self.update();
    }

    /// A wide store is split like a wide load.
    fn write(&mut self, offset: u64, data: &[u8]) -> Effect {
        for (offset, &byte) in (offset..).zip(data) {
            self.store(offset, byte);
            self.update();
        }
        Effect::None
    }
}
