//! The built-in guest kernel: small enough to know each of its exits.
//!
//! One program, one address space, identity-mapped. Ring 0 holds what must be there (entry, the
//! gate, interrupt handlers of a few instructions, HLT); everything else, this kernel's own logic
//! too, runs in ring 3 and natively on every kind of host.
//!
//! In boot order:
//!
//! 1. [`arch`]      entry by our monitor or by PVH: descriptors, then ring 3, for good
//! 2. [`boot`]      what the monitor or loader says about the machine; [`acpi`]
//! 3. [`clock`], [`memory`], [`sched`]   time, space, threads and CPUs
//! 4. [`kernel`]    one workload after the other
//! 5. [`platform`]  what the workloads see of all this; [`file`], [`probe`]
//! 6. [`virtio`]    devices, looked for when a workload wants one; [`blk`], [`net`], [`tar`]
//! 7. [`chaos`]     storms against the machine, drawn by [`random`]; [`journal`], what outlives a machine
//!    that is killed
//! 8. [`console`]   text for people, records for the monitor
//!
//! Built for the host, the crate is the part without the CPU, with its tests.
#![no_std]
// What is made here is made once, by a constant, for a static.
#![allow(clippy::new_without_default)]

#[cfg(any(test, feature = "fuzz"))]
extern crate std;

pub mod acpi;
#[cfg(target_os = "none")]
pub mod arch;
#[cfg(target_os = "none")]
pub mod blk;
pub mod boot;
#[cfg(target_os = "none")]
pub mod chaos;
pub mod clock;
#[cfg(target_os = "none")]
pub mod console;
pub mod file;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod journal;
#[cfg(target_os = "none")]
pub mod kernel;
pub mod memory;
pub mod net;
#[cfg(target_os = "none")]
pub mod platform;
#[cfg(target_os = "none")]
mod probe;
pub mod random;
#[cfg(target_os = "none")]
mod root;
pub mod sched;
pub mod tar;
pub mod virtio;
