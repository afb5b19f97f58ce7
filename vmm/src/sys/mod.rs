//! The only raw system calls and raw memory of this crate. Everything here is small, and each
//! `unsafe` block says why it holds.
#![allow(unsafe_code)]

pub mod affinity;
pub mod aio;
pub mod alarm;
pub mod bpf;
pub mod bridge;
pub mod child;
pub mod clock;
pub mod futex;
pub mod guest_bytes;
mod heap;
pub mod init;
pub mod interface;
pub mod irq_route;
pub mod kick;
pub mod kvm_run;
pub mod kvm_stats;
pub mod landlock;
pub mod limits;
pub mod mapping;
pub mod memory_slot;
pub mod null;
pub mod own_image;
pub mod peer;
pub mod polled;
pub mod port;
pub mod privileges;
pub mod ram;
pub mod seccomp;
pub mod signal;
pub mod switches;
pub mod syscalls;
pub mod terminal;
pub mod vsock;

use std::io;

/// A system call's result, or the error that it has left.
fn checked(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The kernel's number of the calling thread.
fn thread_id() -> libc::pid_t {
    // SAFETY: gettid takes nothing and cannot fail.
    unsafe { libc::syscall(libc::SYS_gettid) as libc::pid_t }
}
