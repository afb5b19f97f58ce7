//! Memory that another process may take away. Shared memory whose file was cut short raises SIGBUS
//! where it is touched; a peer that does so must end its own connection, and nothing else.
//!
//! The handler puts zeroed private memory over the whole mapping, notes that it is gone, and lets the
//! access go on. Seals (F_SEAL_SHRINK) would be no help: huge pages have none.

use std::io;
use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, Once, PoisonError};

/// Mappings at once: 64 regions for each of 64 peers, and as many again while they are exchanged.
const MOST: usize = 2 * 64 * 64;

struct Slot {
    base: AtomicUsize,
    len: AtomicUsize,
    gone: AtomicBool,
}

static SLOTS: [Slot; MOST] =
    [const { Slot { base: AtomicUsize::new(0), len: AtomicUsize::new(0), gone: AtomicBool::new(false) } };
        MOST];

/// A mapping that may vanish. Dropped before it is unmapped.
#[derive(Debug)]
pub struct Guard(usize);

impl Guard {
    /// Watches `len` bytes at `base`; `None` if too many mappings are watched already.
    pub fn new(base: *mut u8, len: usize) -> io::Result<Guard> {
        static TAKING: Mutex<()> = Mutex::new(());
        install()?;
        let _taking = TAKING.lock().unwrap_or_else(PoisonError::into_inner);
        let free = SLOTS.iter().position(|slot| slot.base.load(Ordering::Acquire) == 0);
        let free = free.ok_or(io::ErrorKind::OutOfMemory)?;
        SLOTS[free].gone.store(false, Ordering::Relaxed);
        SLOTS[free].len.store(len, Ordering::Relaxed);
        SLOTS[free].base.store(base as usize, Ordering::Release);
        Ok(Guard(free))
    }

    /// True once some of it was touched in vain.
    #[inline]
    pub fn gone(&self) -> bool {
        SLOTS[self.0].gone.load(Ordering::Relaxed)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        SLOTS[self.0].base.store(0, Ordering::Release);
    }
}

/// Sets the handler, once for the process.
fn install() -> io::Result<()> {
    static ONCE: Once = Once::new();
    let mut done = Ok(());
    ONCE.call_once(|| {
        // SAFETY: plain data, for which all zeroes is a value.
        let mut action: libc::sigaction = unsafe { mem::zeroed() };
        action.sa_sigaction = handle as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        // SAFETY: the action is initialized, and its handler does what a handler may.
        if unsafe { libc::sigaction(libc::SIGBUS, &action, ptr::null_mut()) } < 0 {
            done = Err(io::Error::last_os_error());
        }
    });
    done
}

/// Runs in whatever thread touched the memory: no allocation, no lock, raw system calls only.
extern "C" fn handle(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel gives a valid record, and for SIGBUS the address is set.
    let address = unsafe { (*info).si_addr() } as usize;
    for slot in &SLOTS {
        let (base, len) = (slot.base.load(Ordering::Acquire), slot.len.load(Ordering::Relaxed));
        if base == 0 || address < base || address - base >= len {
            continue;
        }
        slot.gone.store(true, Ordering::Release);
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
        // SAFETY: a mapping of ours, whole, is replaced by one of the same length; whoever reads it
        // takes what it holds for hostile anyway.
        let placed = unsafe { libc::syscall(libc::SYS_mmap, base, len, protection, flags, -1, 0) };
        if placed as usize == base {
            return;
        }
        break;
    }
    // Not such memory: the process ends as it would have, upon the same access.
    // SAFETY: plain data, for which all zeroes is a value: the default action.
    let action: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: the action is initialized.
    unsafe { libc::sigaction(signal, &action, ptr::null_mut()) };
}
