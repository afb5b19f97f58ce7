//! The only room that knows the CPU, and the only one with unsafe code.
//!
//! - [`cpu`]         entry, descriptors, a CPU's own area
//! - [`pvh`]         the other entry, for monitors that are not ours
//! - [`startup`]     second CPUs of theirs
//! - [`gate`]        ring 3 → ring 0 → ring 3
//! - [`exceptions`]  ours, on purpose
//! - [`interrupts`]  the interrupt table; exceptions
//! - [`apic`]        interrupts between CPUs, timer
//! - [`syscall`]     the null file's three ways into the kernel
//! - [`steps`]       instructions, counted
//! - [`thread`]      stacks, and going from one to another
//! - [`kvmclock`]    how fast the counter runs
//! - [`memory`]      physical memory, which is also virtual
//! - [`paging`]      small pages for a while
//! - [`io`]          ports
//! - [`spin`]        what one thread at a time has
//! - [`device`]      registers of devices, memory shared with them
//! - [`wild`]        what no careful code does
#![allow(unsafe_code)]

pub mod apic;
pub mod cpu;
pub mod device;
pub mod exceptions;
pub mod gate;
pub mod interrupts;
pub mod io;
pub mod kvmclock;
pub mod memory;
pub mod paging;
mod pvh;
pub mod spin;
pub mod startup;
pub mod steps;
pub mod syscall;
pub mod thread;
pub mod wild;
