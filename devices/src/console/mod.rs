//! virtio-console (virtio 1.2 §5.3): one port, which Linux calls hvc0. A line of text costs a kick, and not
//! an exit to userspace for every byte.
//!
//! - [`port`]  the host's end: keys that wait, and the line that takes what the guest says

pub mod port;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use port::ConsolePort;

use crate::virtio::backend::QueueBackend;
use crate::virtio::chain::Chain;
use crate::virtio::device::{Device, Kind};
use crate::virtio::queue::{ChainHandler, Queue, Served};
use crate::virtio::ring::RingError;
use crate::virtio::userspace::{Group, Server, Tuning, Userspace};

/// VIRTIO_CONSOLE_F_SIZE (§5.3.3): columns and rows are in the configuration space.
const SIZE: u32 = 0;
const QUEUE_SIZE: u16 = 64;
/// The driver's buffers for input, and those with output (§5.3.2).
const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;
/// Bytes of one buffer that are printed. Linux sends 16 at a time, its `write` up to 32 KiB.
const MOST: usize = 1 << 20;

/// The device.
pub struct Console {
    features: u64,
    /// `struct virtio_console_config` (§5.3.4): columns and rows.
    config: [u8; 4],
    backend: Userspace,
}

impl Console {
    /// A console at `port`; `size`: columns and rows, where there is a terminal.
    pub fn new(port: Arc<Mutex<ConsolePort>>, size: Option<(u16, u16)>, tuning: Tuning) -> Console {
        let (columns, rows) = size.unwrap_or_default();
        let mut config = [0; 4];
        config[..2].copy_from_slice(&columns.to_le_bytes());
        config[2..].copy_from_slice(&rows.to_le_bytes());
        let server = Teletype::new(port);
        let group = Group { queues: vec![RECEIVE, TRANSMIT], server: Box::new(server) };
        Console {
            features: u64::from(size.is_some()) << SIZE,
            config,
            backend: Userspace::new(NAME, u64::MAX, vec![group], tuning),
        }
    }
}

const NAME: &str = "console.0";

/// Serves both queues.
pub(crate) struct Teletype {
    port: Arc<Mutex<ConsolePort>>,
    /// Keys wait, and the driver has no buffer for them.
    starved: bool,
    chain: Option<Chain>,
}

fn lock(port: &Mutex<ConsolePort>) -> MutexGuard<'_, ConsolePort> {
    port.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Teletype {
    pub(crate) fn new(port: Arc<Mutex<ConsolePort>>) -> Teletype {
        Teletype { port, starved: false, chain: None }
    }

    /// Hands waiting keys over. Returns how many buffers they took.
    fn receive(&mut self, queue: &mut Queue) -> Result<usize, RingError> {
        let Some(mut chain) = self.chain.take() else { return Ok(0) };
        let mut port = lock(&self.port);
        let mut taken = Ok(0);
        self.starved = false;
        while port.has_keys() && taken.as_ref().is_ok_and(|taken| *taken < QUEUE_SIZE.into()) {
            match queue.ring().take(&mut chain) {
                Ok(true) => {
                    let count = port.type_into(&mut chain.writable);
                    queue.give(chain.head, count as u32, count as u64);
                    taken = taken.map(|taken| taken + 1);
                }
                Ok(false) => {
                    self.starved = true;
                    break;
                }
                Err(error) => taken = Err(error),
            }
        }
        drop(port);
        self.chain = Some(chain);
        queue.settle();
        taken
    }
}

impl Server for Teletype {
    fn begin(&mut self, queues: &mut [Queue], _: u64) -> io::Result<()> {
        self.chain = queues.first().map(|queue| Chain::new(&queue.resources.memory));
        Ok(())
    }

    fn watch(&self) -> Vec<RawFd> {
        vec![lock(&self.port).typed().as_raw_fd()]
    }

    fn serve(&mut self, queues: &mut [Queue], _: bool) -> Result<bool, RingError> {
        let mut done = 0;
        for queue in queues {
            done += match queue.resources.index {
                RECEIVE => self.receive(queue)?,
                _ => queue.drain(&mut Print(&self.port))? as usize,
            };
        }
        Ok(done > 0)
    }

    fn awaits_kick(&self, queue: u16) -> bool {
        queue == TRANSMIT || self.starved
    }

    fn end(&mut self, _: &mut [Queue]) {
        self.chain = None;
    }
}

/// Prints what the guest says.
struct Print<'a>(&'a Mutex<ConsolePort>);

impl ChainHandler for Print<'_> {
    fn handle(&mut self, _: u16, chain: &mut Chain) -> Served {
        let whole = chain.readable.len() <= MOST;
        chain.readable.truncate(MOST);
        let payload = lock(self.0).print(&mut chain.readable) as u64;
        if whole { Served::Done { written: 0, payload } } else { Served::Failed { written: 0 } }
    }
}

impl Device for Console {
    fn name(&self) -> &str {
        NAME
    }

    fn kind(&self) -> Kind {
        Kind::CONSOLE
    }

    fn features(&self) -> u64 {
        self.features
    }

    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE_SIZE; 2]
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn backend(&mut self) -> &mut dyn QueueBackend {
        &mut self.backend
    }
}
