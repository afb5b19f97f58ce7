//! The null file, with nothing between the workload and the system call: what it measures is the
//! way into the kernel, not a library.

use std::arch::asm;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use workloads::platform::NullFile;

/// `/dev/null`, open.
pub struct Null(File);

impl Null {
    /// Read-only, or for both.
    pub fn open(writable: bool) -> io::Result<Null> {
        File::options().read(true).write(writable).open("/dev/null").map(Null)
    }
}

impl NullFile for Null {
    #[inline]
    fn write(&self, bytes: &[u8]) -> isize {
        // SAFETY: write(2) reads `bytes` only, which lives for the call.
        unsafe { transfer(libc::SYS_write, self.0.as_raw_fd(), bytes.as_ptr().cast_mut(), bytes.len()) }
    }

    #[inline]
    fn read(&self, bytes: &mut [u8]) -> isize {
        // SAFETY: read(2) writes `bytes` only, which lives for the call and is borrowed mutably.
        unsafe { transfer(libc::SYS_read, self.0.as_raw_fd(), bytes.as_mut_ptr(), bytes.len()) }
    }
}

/// A system call of three arguments (System V ABI, AMD64 supplement, A.2.1): bytes transferred, or a
/// negative error number.
///
/// # Safety
/// `call` is SYS_read, or SYS_write, and `bytes` is good for it.
#[inline]
unsafe fn transfer(call: libc::c_long, fd: i32, bytes: *mut u8, len: usize) -> isize {
    let result;
    // SAFETY: as promised; SYSCALL itself changes RCX and R11 only.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") call => result,
            in("rdi") fd,
            in("rsi") bytes,
            in("rdx") len,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}
