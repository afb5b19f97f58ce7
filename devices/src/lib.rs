//! Device models. A device gets guest memory and event fds, and never the hypervisor: this crate
//! compiles and is tested without `/dev/kvm`.
//!
//! - [`bus`]        address → device and register, and their names for the ledger
//! - [`msi`]        what an interrupt is, and who carries it
//! - [`ioapic`]     wires to messages
//! - [`serial`]     a 16550A: the console of every guest, if it isn't [`console`]; both are at a [`line`]
//! - [`exit_port`]  status, marks and records of a guest that knows this monitor
//! - [`acpi`]       power off and reset
//! - [`pvpanic`]    the guest kernel has panicked
//! - [`virtio`]     what a virtio device is, how a driver brings it up, who serves its queues
//! - [`blk`]        a disk over a file, or a block device
//! - [`net`]        a network card over a tap
//! - [`rng`], [`console`], [`vsock`]  random numbers, a terminal, sockets to the host
//! - [`vhost`]      … served by the kernel
//! - [`vhost_user`] … or by another process
//! - [`switch`]     a switch that other machines' network cards are served by
//! - [`pci`]        bus 0: configuration space, BARs, MSI-X
//!
//! From the driver's kick to its interrupt:
//!
//! ```text
//!  driver            transport              backend                device
//!  ──────            ─────────              ───────                ──────
//!  store to NOTIFY ─► ioeventfd ──────────► worker wakes
//!    (or an exit ───► Front::kick ─────────►  │
//!                                             ├─ Ring::take ─► Chain ─► ChainHandler::handle
//!                                             │                            │ blk, net, rng, …
//!                                             ├─ Ring::give ◄── Served ◄───┘
//!                                             ▼ once a batch
//!                                           driver wants one? (EVENT_IDX)
//!  handler ◄─ MSI-X ◄─ irqfd ◄──────────── Interrupt::signal
//! ```
//!
//! A machine attaches a device in four steps: a [`virtio::device::Device`] (blk, net, …), a
//! [`virtio::front::Front`] around it with guest memory, a transport around that
//! ([`virtio::transport::pci::VirtioPci`] with the machine's [`pci::msix::MsiSink`] and
//! [`pci::doorbell::Ioeventfds`]), and [`pci::bus::PciBus::attach`]. The bus itself goes onto the
//! memory [`bus::Bus`] as [`pci::bus::Ecam`] and [`pci::bus::Window`].

pub mod acpi;
pub mod blk;
pub mod bus;
pub mod console;
pub mod exit_port;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod ioapic;
pub mod line;
pub mod msi;
pub mod net;
pub mod pci;
pub mod pvpanic;
pub mod rng;
mod say;
pub mod serial;
pub mod switch;
mod sys;
#[cfg(test)]
mod testing;
pub mod vhost;
pub mod vhost_user;
pub mod virtio;
pub mod vsock;

pub use sys::Memory;
