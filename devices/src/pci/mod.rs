//! PCI: one bus, numbered 0, found by ECAM, with message-signalled interrupts only.
//!
//! ```text
//!   guest load of configuration ──► read-only memory slot over ConfigSpace's pages: no exit
//!   guest store to configuration ─► exit ─► bus::Ecam ─► ConfigSpace, Function ─► BAR moved, MSI-X set
//!   guest load/store in a BAR ────► exit ─► bus::Window ─► Function
//!   doorbell ─────────────────────► ioeventfd, kept where the BAR is: no exit to userspace
//! ```
//!
//! - [`config`]    configuration space of one function, in memory that the guest may read
//! - [`conf1`]     configuration by ports, for a machine without PCI devices
//! - [`function`]  what a function is
//! - [`bus`]       slots, ECAM, and the window that BARs move in
//! - [`msix`]      the MSI-X table and pending bits
//! - [`doorbell`]  ioeventfds, as a device sees them

pub mod bus;
pub mod conf1;
pub mod config;
pub mod doorbell;
pub mod function;
pub mod msix;
