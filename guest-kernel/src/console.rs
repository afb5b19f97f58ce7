//! Text for people and records for the monitor.

use core::fmt;

use abi::port;
use abi::record::{LINE, Record};

use crate::arch::io;

/// Collects a line, then writes it to one port. A line too long is cut.
pub struct Console {
    record: bool,
    line: [u8; LINE],
    len: usize,
}

impl Console {
    /// The serial port.
    pub fn new() -> Console {
        Console { record: false, line: [0; LINE], len: 0 }
    }

    fn put(&mut self, byte: u8) {
        if let Some(slot) = self.line.get_mut(self.len) {
            *slot = byte;
            self.len += 1;
        }
    }

    fn end_line(&mut self) {
        self.len = self.len.min(LINE - 2);
        if self.record {
            self.put(b'\n');
            io::write_text(port::RECORD, &self.line[..self.len]);
        } else {
            self.put(b'\r');
            self.put(b'\n');
            io::write(port::COM1, &self.line[..self.len]);
        }
        self.len = 0;
    }
}

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            match byte {
                b'\n' => self.end_line(),
                byte => self.put(byte),
            }
        }
        Ok(())
    }
}

/// Hands a result to our monitor, or shows it where another one booted this kernel.
pub fn record(record: &Record<'_>, ours: bool) {
    let mut line = Console { record: ours, ..Console::new() };
    // Writing to a line of memory can't fail.
    let _ = record.encode(&mut line);
    line.end_line();
}
