//! System calls that a thread may no longer make (seccomp(2)).

use std::io;
use std::mem::zeroed;
use std::ptr;

use super::{checked, syscalls, terminal};

/// One forbidden call ends the process with the status of a process that its signal has ended.
const STATUS: libc::c_int = 128 + libc::SIGSYS;

/// Whether this kernel can do it as it is wanted here.
pub fn available() -> bool {
    let action = libc::SECCOMP_RET_TRAP;
    // SAFETY: the kernel reads one number.
    let asked =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) };
    asked == 0
}

/// Puts the calling thread, and those that it will start, under `filter`; it has no new privileges already.
/// SPEC_ALLOW: on kernels before 5.16 a filter would also turn off the CPU's store bypass, for the guest too.
pub fn confine(filter: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    let flags = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    // SAFETY: the kernel copies the program, which is live and as long as it says.
    let done =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    checked(done).map(drop)
}

/// Has a forbidden call, of any thread, say its name and end the process.
pub fn name_what_is_forbidden() -> io::Result<()> {
    // SAFETY: plain data, for which all zeroes is a value.
    let mut action: libc::sigaction = unsafe { zeroed() };
    action.sa_sigaction = on_forbidden as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO;
    // SAFETY: the action is initialized, and its handler does what a handler may.
    checked(unsafe { libc::sigaction(libc::SIGSYS, &action, ptr::null_mut()) }.into()).map(drop)
}

/// `si_call_addr`, `si_syscall` and `si_arch` of a signal information (sigaction(2)).
#[repr(C)]
struct Forbidden {
    signal: libc::c_int,
    error: libc::c_int,
    code: libc::c_int,
    address: *const libc::c_void,
    call: libc::c_int,
    arch: libc::c_uint,
}

/// Runs in the thread that made the call: no allocation, no lock, and only calls that every filter allows.
extern "C" fn on_forbidden(_: libc::c_int, info: *const Forbidden, context: *const libc::ucontext_t) {
    terminal::restore_at_once();
    // SAFETY: the kernel gives a valid record of this kind with this signal.
    let number = unsafe { (*info).call };
    let mut line = Line { bytes: [0; 160], len: 0 };
    line.put(b"vmm: a thread made the system call ");
    match usize::try_from(number).ok().and_then(syscalls::name) {
        Some(name) => line.put(name.as_bytes()),
        None => line.number(number.unsigned_abs()),
    }
    if i64::from(number) == libc::SYS_ioctl {
        // SAFETY: the kernel gives the registers of the thread as they were.
        let request = unsafe { (*context).uc_mcontext.gregs[libc::REG_RSI as usize] };
        line.put(b" of request ");
        line.number(request as u32);
    }
    line.put(b", which the sandbox forbids: a fault of vmm; --sandbox=off runs without\n");
    // SAFETY: the bytes are live; the process ends in any case.
    unsafe {
        libc::write(2, line.bytes.as_ptr().cast(), line.len);
        libc::_exit(STATUS);
    }
}

/// Text without the heap.
struct Line {
    bytes: [u8; 160],
    len: usize,
}

impl Line {
    fn put(&mut self, text: &[u8]) {
        for (place, byte) in self.bytes[self.len..].iter_mut().zip(text) {
            *place = *byte;
            self.len += 1;
        }
    }

    fn number(&mut self, number: u32) {
        let digits = (8 - number.leading_zeros() / 4).max(1);
        self.put(b"0x");
        for place in (0..digits).rev() {
            let digit = (number >> (4 * place) & 0xf) as usize;
            self.put(&b"0123456789abcdef"[digit..digit + 1]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, pipe};
    use std::os::fd::AsRawFd;

    use super::*;
    use crate::sandbox::filter;
    use crate::sys::privileges;

    /// What a process that has done `deed` under `filter` says on stderr, and its exit status.
    fn forked(filter: &'static [libc::sock_filter], deed: impl Fn() -> libc::c_long) -> (String, i32) {
        let (mut near, far) = pipe().unwrap();
        // SAFETY: the child makes only calls that a child of a process with threads may make.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let ready = privileges::no_new().is_ok()
                && name_what_is_forbidden().is_ok()
                // SAFETY: a plain number for another.
                && unsafe { libc::dup2(far.as_raw_fd(), 2) } == 2
                && confine(filter).is_ok();
            let status = if ready { i32::from(deed() < 0) } else { 99 };
            // SAFETY: ends it.
            unsafe { libc::_exit(status) };
        }
        drop(far);
        let (mut said, mut status) = (String::new(), 0);
        near.read_to_string(&mut said).unwrap();
        // SAFETY: the number is written to.
        unsafe { libc::waitpid(child, &mut status, 0) };
        (said, libc::WEXITSTATUS(status))
    }

    #[test]
    fn a_forbidden_call_ends_the_process_and_is_named() {
        // SAFETY: asks for a number.
        let (said, status) = forked(filter::VCPU, || unsafe { libc::syscall(libc::SYS_getppid) });
        assert!(said.starts_with("vmm: a thread made the system call getppid, which the sandbox"), "{said}");
        assert_eq!((status, said.lines().count()), (159, 1));
        // SAFETY: no such call.
        let (said, status) = forked(filter::WORKER, || unsafe { libc::syscall(9_999) });
        assert!(said.contains(" system call 0x270f, "), "{said}");
        assert_eq!(status, 159);
    }

    #[test]
    fn arguments_count() {
        // SAFETY: no pointer is live, so that a call that is let through fails.
        let open = |flags: libc::c_int| unsafe {
            libc::syscall(libc::SYS_openat, libc::AT_FDCWD, ptr::null::<libc::c_char>(), flags, 0)
        };
        assert_eq!(forked(filter::VCPU, move || open(libc::O_RDONLY)).1, 1);
        assert_eq!(forked(filter::VCPU, move || open(libc::O_RDWR)).1, 159);
        assert_eq!(forked(filter::MAIN, move || open(libc::O_RDWR)).1, 1);
        // SAFETY: a new mapping, or none.
        let map = |protection| unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            libc::mmap(ptr::null_mut(), 4096, protection, flags, -1, 0) as libc::c_long
        };
        assert_eq!(forked(filter::MAIN, move || map(libc::PROT_READ)).1, 0);
        assert_eq!(forked(filter::MAIN, move || map(libc::PROT_READ | libc::PROT_EXEC)).1, 159);
        // SAFETY: the descriptor is of no terminal.
        let ask = |request| unsafe { libc::ioctl(9_999, request, 0) }.into();
        assert_eq!(forked(filter::MAIN, move || ask(libc::TCGETS as _)).1, 1);
        let typed = forked(filter::MAIN, move || ask(libc::TIOCSTI as _));
        assert!(typed.0.contains(" ioctl of request 0x5412, ") && typed.1 == 159, "{typed:?}");
    }

    #[test]
    fn a_ring_is_for_a_disk_that_has_one() {
        // SAFETY: no pointer is live, so that a call that is let through fails.
        let ring = || unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, ptr::null::<u8>()) };
        for (filter, status) in [
            (filter::WORKER, 159),
            (filter::VCPU_WITH_DEVICES, 159),
            (filter::MAIN, 159),
            (filter::WORKER_WITH_URING, 1),
            (filter::VCPU_WITH_URING, 1),
        ] {
            assert_eq!(forked(filter, ring).1, status);
        }
    }

    #[test]
    fn names_are_where_the_kernel_has_them() {
        for (number, name) in [
            (libc::SYS_read, "read"),
            (libc::SYS_seccomp, "seccomp"),
            (libc::SYS_rseq, "rseq"),
            (libc::SYS_pidfd_send_signal, "pidfd_send_signal"),
            (libc::SYS_landlock_restrict_self, "landlock_restrict_self"),
        ] {
            assert_eq!(syscalls::name(number as usize), Some(name));
        }
        assert_eq!(syscalls::name(400), None);
    }
}
