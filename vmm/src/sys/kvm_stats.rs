//! KVM_GET_STATS_FD (KVM api.rst §4.133), which kvm-ioctls has no call for.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};

/// `_IO(KVMIO, 0xce)`.
const KVM_GET_STATS_FD: libc::Ioctl = 0xaece;

/// The binary statistics of a VM or a vCPU, as a file of their own.
pub fn statistics_file(of: &impl AsRawFd) -> io::Result<File> {
    // SAFETY: this request takes no argument; it fails with ENOTTY on a file that is no VM or vCPU.
    let fd: RawFd = unsafe { libc::ioctl(of.as_raw_fd(), KVM_GET_STATS_FD) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Ok(unsafe { File::from_raw_fd(fd) })
}
