//! What has no safe wrapper: port writes by a process, a guest's network address, a terminal, CPU time, a
//! machine's memory.
#![allow(unsafe_code)]

use std::arch::asm;
use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr;
use std::time::Duration;

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use vm_memory::{GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

/// Writes `value` to `port`, which needs CAP_SYS_RAWIO.
pub fn out8(port: u16, value: u8) -> io::Result<()> {
    // SAFETY: changes which ports this thread may use, no memory.
    if unsafe { libc::ioperm(port.into(), 1, 1) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the port is open to this thread; the instruction touches no memory, stack or flags.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags)) };
    Ok(())
}

/// Asks a process to end (SIGTERM).
pub fn ask_to_end(id: u32) -> io::Result<()> {
    // SAFETY: by value only.
    if unsafe { libc::kill(id as libc::pid_t, libc::SIGTERM) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// `struct ifreq` with an address or with flags (netdevice(7)).
#[repr(C)]
struct Request {
    name: [u8; 16],
    /// Flags, or the address family.
    word: u16,
    port: u16,
    address: [u8; 4],
    rest: [u8; 16],
}

/// Gives interface `name` an address in a network of 256, and sets it up.
pub fn address(name: &str, address: Ipv4Addr) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let family = libc::AF_INET as u16;
    let up = (libc::IFF_UP | libc::IFF_RUNNING) as u16;
    let mask = Ipv4Addr::new(255, 255, 255, 0);
    let steps = [
        (libc::SIOCSIFADDR, family, address.octets()),
        (libc::SIOCSIFNETMASK, family, mask.octets()),
        (libc::SIOCSIFFLAGS, up, [0; 4]),
    ];
    for (number, word, address) in steps {
        let mut request = Request { name: [0; 16], word, port: 0, address, rest: [0; 16] };
        let room = request.name.get_mut(..name.len().min(15));
        room.ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(&name.as_bytes()[..name.len().min(15)]);
        // SAFETY: the three requests read one ifreq.
        if unsafe { libc::ioctl(socket.as_raw_fd(), number as _, &mut request) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// A terminal that nobody sits at, for a program that will have one as its stdin.
#[derive(Debug)]
pub struct Terminal {
    _far: File,
    near: File,
}

impl Terminal {
    pub fn open() -> io::Result<Terminal> {
        let (mut far, mut near) = (-1, -1);
        let (name, settings, size) = (ptr::null_mut(), ptr::null(), ptr::null());
        // SAFETY: writes to two live variables; without the rest it takes what is usual.
        if unsafe { libc::openpty(&mut far, &mut near, name, settings, size) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: two new descriptors that nobody else owns.
        let (far, near) = unsafe { (File::from_raw_fd(far), File::from_raw_fd(near)) };
        // Copies, unlike these, are closed in the programs that are started.
        Ok(Terminal { _far: far.try_clone()?, near: near.try_clone()? })
    }

    pub fn stdin(&self) -> io::Result<File> {
        self.near.try_clone()
    }
}

/// This process has had so much, on all CPUs.
pub fn cpu_time() -> io::Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to a live variable.
    match unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) } {
        0 => Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Gives `memory` to a machine, for as long as this process lives.
pub fn give(vm: &VmFd, memory: GuestMemoryMmap) -> io::Result<()> {
    let memory = Box::leak(Box::new(memory));
    for (slot, region) in memory.iter().enumerate() {
        let slot = kvm_userspace_memory_region {
            slot: slot as u32,
            flags: 0,
            guest_phys_addr: region.start_addr().0,
            memory_size: region.len(),
            userspace_addr: region.as_ptr() as u64,
        };
        // SAFETY: a range that stays mapped, and that nobody has references into.
        unsafe { vm.set_user_memory_region(slot) }
            .map_err(|error| io::Error::from_raw_os_error(error.errno()))?;
    }
    Ok(())
}
