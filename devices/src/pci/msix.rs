//! MSI-X: the table, the pending bits, and vectors as devices raise them (PCI Local Bus 3.0 §6.8.2).
//!
//! A vector with an event fd is masked by taking its irqfd away: what a device raises meanwhile stays
//! in the fd, which is the pending bit, and giving the irqfd back delivers it. Without irqfds a vector
//! keeps the bit itself.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vmm_sys_util::eventfd::EventFd;

use crate::msi::Message;
use crate::say::say;
use crate::sys::file::readable;
use crate::virtio::interrupt::Interrupt;

/// The machine's message-signalled interrupts.
pub trait MsiSink: Send + Sync {
    /// A new vector, routed nowhere.
    fn vector(&self) -> io::Result<Box<dyn MsiVector>>;
}

/// One vector, as the machine delivers it.
pub trait MsiVector: Send + Sync {
    /// The fd whose write delivers the message that is routed; `None` without irqfds.
    fn event(&self) -> Option<&EventFd>;

    /// Routes the fd to a message, or takes the route away, without losing what is in the fd.
    fn route(&self, message: Option<Message>) -> io::Result<()>;

    /// Delivers a message now; for vectors without an fd.
    fn send(&self, message: Message) -> io::Result<()>;
}

/// A vector, as devices raise it.
pub struct Vector {
    machine: Box<dyn MsiVector>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// `None` while it is masked.
    message: Option<Message>,
    /// Raised while masked; only without an fd.
    pending: bool,
}

impl Vector {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, message: Option<Message>) {
        let mut state = self.state();
        if state.message == message {
            return;
        }
        state.message = message;
        if self.machine.event().is_some() {
            if let Err(error) = self.machine.route(message) {
                say(format_args!("route an MSI-X vector to {message:x?}: {error}"));
            }
        } else if let (Some(message), true) = (message, state.pending) {
            state.pending = false;
            self.send(message);
        }
    }

    fn send(&self, message: Message) {
        if let Err(error) = self.machine.send(message) {
            say(format_args!("send MSI {message:x?}: {error}"));
        }
    }

    fn pending(&self) -> bool {
        let state = self.state();
        match self.machine.event() {
            Some(event) => state.message.is_none() && readable(event),
            None => state.pending,
        }
    }
}

impl Interrupt for Vector {
    fn signal(&self) {
        if let Some(event) = self.machine.event() {
            // It fails only where 2^64 interrupts wait.
            let _ = event.write(1);
            return;
        }
        let mut state = self.state();
        match state.message {
            Some(message) => self.send(message),
            None => state.pending = true,
        }
    }

    fn event(&self) -> Option<&EventFd> {
        self.machine.event()
    }
}

/// A table entry as the guest wrote it: address, data, and bit 0 of the last word masks.
type Entry = [u32; 4];
const ENTRY: usize = 16;

/// A function's table, pending bits and vectors.
pub struct Msix {
    table: Vec<Entry>,
    vectors: Vec<Arc<Vector>>,
    enabled: bool,
    masked: bool,
}

impl Msix {
    /// `count` vectors, all masked (§6.8.2.9).
    pub fn new(count: u16, sink: &dyn MsiSink) -> io::Result<Msix> {
        let vector = |_| Ok(Arc::new(Vector { machine: sink.vector()?, state: Mutex::default() }));
        Ok(Msix {
            table: vec![[0, 0, 0, 1]; usize::from(count)],
            vectors: (0..count).map(vector).collect::<io::Result<_>>()?,
            enabled: false,
            masked: false,
        })
    }

    /// Vectors in the table.
    pub fn len(&self) -> u16 {
        self.table.len() as u16
    }

    /// A table is never empty.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The vector `index`, if there is one.
    pub fn vector(&self, index: u16) -> Option<&Arc<Vector>> {
        self.vectors.get(usize::from(index))
    }

    /// The message control word was written: bit 15 enables, bit 14 masks all.
    pub fn control(&mut self, control: u16) {
        (self.enabled, self.masked) = (control & 0x8000 != 0, control & 0x4000 != 0);
        (0..self.table.len()).for_each(|index| self.update(index));
    }

    fn update(&self, index: usize) {
        let [low, high, data, control] = self.table[index];
        let open = self.enabled && !self.masked && control & 1 == 0;
        let message = Message { address: u64::from(high) << 32 | u64::from(low), data };
        self.vectors[index].set(open.then_some(message));
    }

    /// A load from the table; §6.8.2 allows aligned 32 and 64 bits.
    pub fn read_table(&self, offset: usize, data: &mut [u8]) {
        let words = self.table.iter().flatten().skip(offset / 4);
        for (chunk, word) in data.chunks_mut(4).zip(words) {
            chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
        }
    }

    /// A store to the table; any other than aligned 32 or 64 bits is ignored.
    pub fn write_table(&mut self, offset: usize, data: &[u8]) {
        if !matches!(data.len(), 4 | 8) || !offset.is_multiple_of(data.len()) {
            return;
        }
        let (index, word) = (offset / ENTRY, offset % ENTRY / 4);
        let Some(entry) = self.table.get_mut(index) else { return };
        for (word, chunk) in entry[word..].iter_mut().zip(data.as_chunks::<4>().0) {
            *word = u32::from_le_bytes(*chunk);
        }
        entry[3] &= 1;
        self.update(index);
    }

    /// A load from the pending bits; stores to them are ignored.
    pub fn read_pending(&self, offset: usize, data: &mut [u8]) {
        for (byte, at) in data.iter_mut().zip(offset..) {
            let bits =
                (0..8).filter(|bit| self.vectors.get(8 * at + bit).is_some_and(|vector| vector.pending()));
            *byte = bits.fold(0, |byte, bit| byte | 1 << bit);
        }
    }
}
