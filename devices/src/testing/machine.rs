//! Memory, interrupts and doorbells without a hypervisor.

use std::io;
use std::sync::{Arc, Mutex};

use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use vmm_sys_util::tempfile::TempFile;

use crate::msi::Message;
use crate::pci::doorbell::{Ioeventfds, Match, Place};
use crate::pci::msix::{MsiSink, MsiVector};
use crate::sys::Memory;

/// 16 MiB from 0, in two regions that meet at 8 MiB; other processes may have it, too.
pub fn memory() -> Memory {
    const REGION: usize = 8 << 20;
    let file = Arc::new(TempFile::new().unwrap().into_file());
    file.set_len(2 * REGION as u64).unwrap();
    let range = |n: usize| {
        let start = (n * REGION) as u64;
        (GuestAddress(start), REGION, Some(FileOffset::from_arc(file.clone(), start)))
    };
    Arc::new(GuestMemoryMmap::from_ranges_with_files([range(0), range(1)]).unwrap())
}

/// What a machine has been asked for.
#[derive(Default)]
pub struct Asked {
    /// Doorbells that are attached.
    pub doorbells: Vec<(Place, Match)>,
    /// For each vector, where it is routed.
    pub routes: Vec<Option<Message>>,
    /// Messages sent without an fd.
    pub sent: Vec<Message>,
    /// The vectors' fds.
    pub events: Vec<Arc<EventFd>>,
}

/// A machine that only remembers.
#[derive(Clone, Default)]
pub struct Machine {
    pub asked: Arc<Mutex<Asked>>,
    /// No irqfds.
    pub by_ioctl: bool,
}

impl Machine {
    /// Interrupts raised on a vector since the last call.
    pub fn raised(&self, vector: usize) -> u64 {
        self.asked.lock().unwrap().events[vector].read().unwrap_or(0)
    }
}

impl Ioeventfds for Machine {
    fn attach(&self, place: Place, matching: Match, _: &EventFd) -> io::Result<bool> {
        self.asked.lock().unwrap().doorbells.push((place, matching));
        Ok(true)
    }
    fn detach(&self, place: Place, matching: Match, _: &EventFd) -> io::Result<()> {
        self.asked.lock().unwrap().doorbells.retain(|&bell| bell != (place, matching));
        Ok(())
    }
}

struct TestVector {
    index: usize,
    machine: Machine,
    event: Arc<EventFd>,
}

impl MsiSink for Machine {
    fn vector(&self) -> io::Result<Box<dyn MsiVector>> {
        let event = Arc::new(EventFd::new(EFD_NONBLOCK)?);
        let mut asked = self.asked.lock().unwrap();
        asked.events.push(event.clone());
        asked.routes.push(None);
        Ok(Box::new(TestVector { index: asked.routes.len() - 1, machine: self.clone(), event }))
    }
}

impl MsiVector for TestVector {
    fn event(&self) -> Option<&EventFd> {
        (!self.machine.by_ioctl).then_some(&self.event)
    }
    fn route(&self, message: Option<Message>) -> io::Result<()> {
        self.machine.asked.lock().unwrap().routes[self.index] = message;
        Ok(())
    }
    fn send(&self, message: Message) -> io::Result<()> {
        self.machine.asked.lock().unwrap().sent.push(message);
        Ok(())
    }
}

/// A file of one test, in a directory of its own; both go when it does.
pub struct Scratch(std::path::PathBuf);

impl Scratch {
    /// Nothing is there yet. `name` tells tests apart.
    pub fn new(name: &str) -> Scratch {
        let dir = std::env::temp_dir().join(format!("devices-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Scratch(dir.join("file"))
    }
}

impl std::ops::Deref for Scratch {
    type Target = std::path::Path;
    fn deref(&self) -> &std::path::Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = self.0.parent().map(std::fs::remove_dir_all);
    }
}
