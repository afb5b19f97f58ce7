//! What can go wrong while a machine is built.

use crate::boot::payload;
use crate::kvm::vm;
use crate::machine::{attach, memory};
use crate::status::{Fatal, Status};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Kvm(#[from] vm::Error),
    #[error(transparent)]
    Memory(#[from] memory::Error),
    #[error(transparent)]
    Payload(#[from] payload::Error),
    #[error("write boot data to guest memory: {0}")]
    Write(#[from] vm_memory::GuestMemoryError),
    #[error("start a thread: {0}")]
    Thread(std::io::Error),
    #[error("create event fd: {0}")]
    EventFd(std::io::Error),
    #[error("take signals: {0}")]
    Signals(std::io::Error),
    #[error("connect the console: {0}")]
    Console(std::io::Error),
    #[error("make room for PCI configuration space: {0}")]
    Pci(std::io::Error),
    #[error(transparent)]
    Device(#[from] attach::Error),
    #[error(transparent)]
    Overlap(#[from] devices::bus::Overlap),
}

impl Fatal for Error {
    fn status(&self) -> Status {
        match self {
            Error::Kvm(error) => error.status(),
            Error::Memory(error) => error.status(),
            Error::Payload(error) => error.status(),
            Error::Device(error) => error.status(),
            Error::Write(_)
            | Error::Thread(_)
            | Error::EventFd(_)
            | Error::Signals(_)
            | Error::Console(_)
            | Error::Pci(_)
            | Error::Overlap(_) => Status::Resource,
        }
    }
}
