//! An event fd of a peer, written so that the writer never waits.
//!
//! O_NONBLOCK belongs to the open file, which the peer has as well: it may take the flag away again and
//! fill the counter, and a write(2) then waits for as long as the peer likes. What the kernel signals
//! itself never waits, and asynchronous input ends with such a signal (`IOCB_FLAG_RESFD`, io_submit(2)):
//! here, of a read from an empty event fd of our own, which ends at once.

use std::io;
use std::os::fd::AsRawFd;

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// `struct iocb` of uapi/linux/aio_abi.h, little-endian.
#[repr(C)]
#[derive(Default)]
struct Control {
    data: u64,
    key: u32,
    rw_flags: i32,
    opcode: u16,
    priority: i16,
    file: u32,
    buffer: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    event_file: u32,
}

/// `struct io_event`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Ended {
    data: u64,
    control: u64,
    result: i64,
    result2: i64,
}

/// IOCB_CMD_PREAD, IOCB_FLAG_RESFD.
const READ: u16 = 0;
const TELLS: u32 = 1;
/// Rings whose ends are not collected yet: half of what the kernel has room for.
const MOST: usize = 64;

/// What rings.
#[derive(Default)]
pub enum Bell {
    /// Set up when it is wanted first.
    #[default]
    New,
    Kernel(Aio),
    /// This host has no asynchronous I/O: a plain write, which a hostile peer may hold up.
    Write,
}

pub struct Aio {
    context: libc::c_ulong,
    empty: EventFd,
    /// Ended, and not collected.
    ended: usize,
}

impl Bell {
    /// Adds 1 to `event`. One that is full has its signal pending.
    pub fn ring(&mut self, event: &EventFd) {
        if let Bell::New = self {
            *self = Aio::new().map_or(Bell::Write, Bell::Kernel);
        }
        if let Bell::Kernel(aio) = self
            && aio.ring(event).is_ok()
        {
            return;
        }
        *self = Bell::Write;
        let _ = event.write(1);
    }
}

impl Aio {
    fn new() -> io::Result<Aio> {
        let empty = EventFd::new(EFD_NONBLOCK)?;
        let mut context: libc::c_ulong = 0;
        // SAFETY: the context's number is written to a live integer.
        checked(unsafe { libc::syscall(libc::SYS_io_setup, 2 * MOST, &raw mut context) })?;
        Ok(Aio { context, empty, ended: 0 })
    }

    fn ring(&mut self, event: &EventFd) -> io::Result<()> {
        if self.ended == MOST {
            self.collect()?;
        }
        let mut word = 0_u64;
        let mut control = Control {
            opcode: READ,
            file: self.empty.as_raw_fd() as u32,
            buffer: &raw mut word as u64,
            bytes: size_of_val(&word) as u64,
            flags: TELLS,
            event_file: event.as_raw_fd() as u32,
            ..Control::default()
        };
        let list = [&raw mut control];
        // SAFETY: one live request; its read finds nothing and has ended when the call returns, so that
        // neither it nor its buffer is used afterwards.
        checked(unsafe { libc::syscall(libc::SYS_io_submit, self.context, 1, list.as_ptr()) })?;
        self.ended += 1;
        Ok(())
    }

    /// Makes room. How they have ended does not matter.
    fn collect(&mut self) -> io::Result<()> {
        let mut ended = [Ended::default(); MOST];
        // SAFETY: room for as many as are asked for; none is waited for.
        let count = checked(unsafe {
            let now = std::ptr::null_mut::<libc::timespec>();
            libc::syscall(libc::SYS_io_getevents, self.context, 0, MOST, ended.as_mut_ptr(), now)
        })?;
        self.ended = self.ended.saturating_sub(count as usize);
        Ok(())
    }
}

impl Drop for Aio {
    fn drop(&mut self) {
        // SAFETY: a context of our own, with nothing under way.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.context) };
    }
}

fn checked(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::event;

    #[test]
    fn many_rings_are_counted_and_a_full_event_is_nothing_to_wait_for() {
        let mut bell = Bell::default();
        let event = EventFd::new(0).unwrap();
        for _ in 0..1000 {
            bell.ring(&event);
        }
        assert_eq!(event.read().unwrap(), 1000);
        if let Bell::Write = bell {
            return;
        }
        event.write(u64::MAX - 1).unwrap();
        event::set_blocking(&event);
        bell.ring(&event);
        bell.ring(&event);
        assert!(event.read().unwrap() >= u64::MAX - 1);
    }
}
