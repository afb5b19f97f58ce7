//! The host's end of a virtio console: keys that wait for the guest, and the line that takes what it says.

use std::collections::VecDeque;
use std::io;

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::line::{Line, Port, Traffic};
use crate::sys::segments::Segments;

/// Bytes of input that wait on the host side.
const QUEUE: usize = 4096;

/// Shared between whoever types and the worker that serves the guest.
pub struct ConsolePort {
    keys: VecDeque<u8>,
    /// The queue has been full, and nobody was told yet that it no longer is.
    full: bool,
    typed: EventFd,
    line: Box<dyn Line>,
    traffic: Traffic,
}

impl ConsolePort {
    /// One that is plugged into `line`.
    pub fn new(line: Box<dyn Line>) -> io::Result<ConsolePort> {
        let typed = EventFd::new(EFD_NONBLOCK)?;
        Ok(ConsolePort { keys: VecDeque::new(), full: false, typed, line, traffic: Traffic::default() })
    }

    /// Written at each key; an edge for the worker, which never reads it.
    pub(super) fn typed(&self) -> &EventFd {
        &self.typed
    }

    pub(super) fn has_keys(&self) -> bool {
        !self.keys.is_empty()
    }

    /// As many keys as fit.
    pub(super) fn type_into(&mut self, buffer: &mut Segments) -> usize {
        let count = buffer.write(self.keys.make_contiguous());
        self.keys.drain(..count);
        self.traffic.received += count as u64;
        if self.full && self.keys.len() <= QUEUE / 2 {
            self.full = false;
            self.line.room();
        }
        count
    }

    /// All that is in the buffer.
    pub(super) fn print(&mut self, buffer: &mut Segments) -> usize {
        let (mut chunk, mut printed) = ([0; 256], 0);
        loop {
            let count = buffer.read(&mut chunk);
            if count == 0 {
                self.traffic.sent += printed as u64;
                return printed;
            }
            chunk[..count].iter().for_each(|&byte| self.line.transmit(byte));
            printed += count;
        }
    }
}

impl Port for ConsolePort {
    fn space(&self) -> usize {
        QUEUE - self.keys.len()
    }

    fn push(&mut self, input: &[u8]) -> usize {
        let taken = input.len().min(self.space());
        self.keys.extend(&input[..taken]);
        self.full |= self.space() == 0;
        if taken > 0 {
            // It fails only where 2^64 keys wait.
            let _ = self.typed.write(1);
        }
        taken
    }

    fn traffic(&self) -> Traffic {
        self.traffic
    }
}
