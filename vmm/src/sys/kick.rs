//! Makes a vCPU thread leave the guest.
//!
//! A kick is a real-time signal. Its handler sets `immediate_exit` in the vCPU's `kvm_run` (KVM api.rst
//! §5), so a kick is never lost: one that comes between the thread's last check and KVM_RUN makes
//! KVM_RUN return at once, and one that comes later interrupts it.

use std::cell::Cell;
use std::io;
use std::marker::PhantomData;
use std::mem::offset_of;
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU8, Ordering};

use kvm_bindings::kvm_run;
use kvm_ioctls::VcpuFd;

/// `kvm_run` starts on the first page of a vCPU's mapping, and all that is wanted lies on it.
const PAGE: usize = 4096;

thread_local! {
    /// `immediate_exit` of the vCPU that this thread runs, or null. Constant and without a destructor,
    /// so a signal handler may read it.
    static IMMEDIATE_EXIT: Cell<*const AtomicU8> = const { Cell::new(ptr::null()) };
}

/// The vCPU of the current thread can be kicked for as long as this lives.
pub struct Kickable {
    page: NonNull<libc::c_void>,
    thread: libc::pid_t,
    /// Belongs to the thread that made it.
    _here: PhantomData<*const ()>,
}

/// Kicks one vCPU thread, from any other.
#[derive(Clone, Copy, Debug)]
pub struct Kicker {
    thread: libc::pid_t,
}

fn signal() -> libc::c_int {
    libc::SIGRTMIN()
}

extern "C" fn on_kick(_: libc::c_int) {
    let flag = IMMEDIATE_EXIT.get();
    // SAFETY: null, or into the mapping of the `Kickable` of this thread, which sets it back to null
    // before it unmaps. The handler runs on the same thread, so it sees one or the other.
    if let Some(flag) = unsafe { flag.as_ref() } {
        flag.store(1, Ordering::Relaxed);
    }
}

impl Kickable {
    /// The current thread is about to run `vcpu`. It has a mapping of its own of the shared page, so it
    /// doesn't depend on what becomes of `vcpu`.
    pub fn register(vcpu: &VcpuFd) -> io::Result<Kickable> {
        // No SA_RESTART: whatever the thread waits in shall return.
        let mut action: libc::sigaction = {
            // SAFETY: sigaction is plain data, for which all zeroes is valid.
            unsafe { std::mem::zeroed() }
        };
        action.sa_sigaction = on_kick as *const () as usize;
        // SAFETY: `action` is initialized, and its handler only touches a thread-local and an atomic.
        if unsafe { libc::sigaction(signal(), &action, ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping at an address of the kernel's choice; the result is checked.
        let page = unsafe { libc::mmap(ptr::null_mut(), PAGE, protection, flags, vcpu.as_raw_fd(), 0) };
        if page == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let page = NonNull::new(page).ok_or(io::ErrorKind::OutOfMemory)?;
        let thread = super::thread_id();
        let kickable = Kickable { page, thread, _here: PhantomData };
        IMMEDIATE_EXIT.set(kickable.flag());
        Ok(kickable)
    }

    /// What the other threads need to kick this one.
    pub fn kicker(&self) -> Kicker {
        Kicker { thread: self.thread }
    }

    /// The kick has been seen: the next KVM_RUN enters the guest again. Call it before, not after,
    /// looking for what the kick was about.
    pub fn acknowledge(&self) {
        self.flag().store(0, Ordering::Relaxed);
    }

    fn flag(&self) -> &AtomicU8 {
        // SAFETY: `immediate_exit` is a byte inside the mapped page, which lives as long as `self`. The
        // kernel only reads it; everyone in this module accesses it as an atomic.
        unsafe { self.page.cast::<u8>().add(offset_of!(kvm_run, immediate_exit)).cast::<AtomicU8>().as_ref() }
    }
}

impl Drop for Kickable {
    fn drop(&mut self) {
        IMMEDIATE_EXIT.set(ptr::null());
        // SAFETY: the mapping is ours, and the last pointer into it has just been forgotten.
        unsafe { libc::munmap(self.page.as_ptr(), PAGE) };
    }
}

impl Kicker {
    /// The thread's number, for /proc.
    pub fn thread(self) -> libc::pid_t {
        self.thread
    }

    /// Makes the thread leave the guest, or not enter it. A thread that has ended is none to kick.
    pub fn kick(self) {
        // SAFETY: sends a signal whose handler is installed: a `Kickable` made this. A thread of this
        // process that took over the number has a null pointer, which the handler leaves alone.
        unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), self.thread, signal()) };
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use kvm_ioctls::Kvm;

    use super::*;

    /// A vCPU that waits for its SIPI: KVM_RUN of it returns only when kicked.
    fn sleeper() -> Option<VcpuFd> {
        let vm = Kvm::new()
            .and_then(|kvm| kvm.create_vm())
            .inspect_err(|e| eprintln!("skipped: no KVM: {e}"))
            .ok()?;
        vm.create_irq_chip().unwrap();
        Some(vm.create_vcpu(1).unwrap())
    }

    #[test]
    fn a_kick_that_comes_early_is_not_lost() {
        let Some(mut vcpu) = sleeper() else { return };
        let kickable = Kickable::register(&vcpu).unwrap();
        kickable.kicker().kick();
        assert_eq!(vcpu.run().unwrap_err().errno(), libc::EINTR);
        assert_eq!(vcpu.run().unwrap_err().errno(), libc::EINTR, "it stays until acknowledged");
        kickable.acknowledge();
        assert_eq!(vcpu.get_kvm_run().immediate_exit, 0);
    }

    #[test]
    fn a_kick_wakes_a_vcpu_that_sleeps() {
        let Some(mut vcpu) = sleeper() else { return };
        let kickable = Kickable::register(&vcpu).unwrap();
        let kicker = kickable.kicker();
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(20));
                kicker.kick();
            });
            assert_eq!(vcpu.run().unwrap_err().errno(), libc::EINTR);
        });
        drop(kickable);
        kicker.kick();
    }
}
