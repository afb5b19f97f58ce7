//! A tap: a host network interface whose frames come and go by a file (Linux, tuntap.rst).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

/// `ifr_flags` of TUNSETIFF, and what `tun_flags` in sysfs shows.
pub const TAP: i16 = 0x0002;
pub const NO_PI: i16 = 0x1000;
pub const VNET_HDR: i16 = 0x4000;
pub const MULTI_QUEUE: i16 = 0x0100;
const ATTACH_QUEUE: i16 = 0x0200;
const DETACH_QUEUE: i16 = 0x0400;

/// TUNSETOFFLOAD: what frames for the guest may still lack.
pub const OFFLOAD_CSUM: u32 = 0x01;
pub const OFFLOAD_TSO4: u32 = 0x02;
pub const OFFLOAD_TSO6: u32 = 0x04;
pub const OFFLOAD_ECN: u32 = 0x08;

const TUNSETIFF: u32 = 0x4004_54ca;
const TUNGETIFF: u32 = 0x8004_54d2;
const TUNSETOFFLOAD: u32 = 0x4004_54d0;
const TUNSETVNETHDRSZ: u32 = 0x4004_54d8;
const TUNSETQUEUE: u32 = 0x4004_54d9;

/// `struct ifreq`, as TUNSETIFF and TUNGETIFF use it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Request {
    name: [u8; 16],
    flags: i16,
    rest: [u8; 22],
}

fn ioctl<T>(file: &impl AsFd, number: u32, argument: *mut T) -> io::Result<()> {
    // SAFETY: callers pass what the request reads or writes.
    let code = unsafe { libc::ioctl(file.as_fd().as_raw_fd(), number as _, argument) };
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// What will be a queue of a tap, non-blocking.
pub fn device() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")
}

/// Makes it a queue of the tap called `name`, which has at most 15 bytes.
pub fn take(file: &File, name: &str, flags: i16) -> io::Result<()> {
    let mut request = Request { name: [0; 16], flags, rest: [0; 22] };
    let room = request.name.get_mut(..name.len()).filter(|room| room.len() < 16);
    room.ok_or(io::Error::from_raw_os_error(libc::ENAMETOOLONG))?.copy_from_slice(name.as_bytes());
    ioctl(file, TUNSETIFF, &mut request)
}

/// Who this process is, in the eyes of the owner of a tap.
pub fn user() -> u32 {
    // SAFETY: no memory is involved.
    unsafe { libc::geteuid() }
}

/// Takes over a tap queue that was opened by someone else, and makes it non-blocking.
pub fn inherit(fd: RawFd) -> io::Result<File> {
    // SAFETY: a number that is no open fd is refused by the kernel, here and now.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    if fd <= 2 || flags < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: it is open, and the command line has handed it to us alone.
    let file = unsafe { File::from_raw_fd(fd) };
    // SAFETY: no memory is involved.
    unsafe { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) };
    Ok(file)
}

/// Name and flags of the interface behind a queue.
pub fn interface(file: &File) -> io::Result<(String, i16)> {
    let mut request = Request { name: [0; 16], flags: 0, rest: [0; 22] };
    ioctl(file, TUNGETIFF, &mut request)?;
    let name = request.name.split(|&b| b == 0).next().unwrap_or_default();
    Ok((String::from_utf8_lossy(name).into_owned(), request.flags))
}

/// Bytes of the virtio header before each frame.
pub fn set_header(file: &File, mut bytes: i32) -> io::Result<()> {
    ioctl(file, TUNSETVNETHDRSZ, &mut bytes)
}

/// What frames for the guest may lack.
pub fn set_offload(file: &File, offload: u32) -> io::Result<()> {
    // The argument is the value itself.
    ioctl(file, TUNSETOFFLOAD, offload as usize as *mut u8)
}

/// Lets the kernel choose this queue for frames, or not.
pub fn attach_queue(file: &File, attached: bool) -> io::Result<()> {
    let flags = if attached { ATTACH_QUEUE } else { DETACH_QUEUE };
    ioctl(file, TUNSETQUEUE, &mut Request { name: [0; 16], flags, rest: [0; 22] })
}
