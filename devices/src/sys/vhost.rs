//! `/dev/vhost-net` and `/dev/vhost-vsock`: the kernel serves queues (Linux, include/uapi/linux/vhost.h).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use vm_memory::{Address, GuestMemoryBackend, GuestMemoryRegion};
use vmm_sys_util::eventfd::EventFd;

use super::Memory;
use super::window::host_address;
use crate::virtio::backend::QueueResources;

const SET_OWNER: u32 = 0xaf01;
const GET_FEATURES: u32 = 0x8008_af00;
const SET_FEATURES: u32 = 0x4008_af00;
const SET_MEM_TABLE: u32 = 0x4008_af03;
const SET_VRING_NUM: u32 = 0x4008_af10;
const GET_VRING_BASE: u32 = 0xc008_af12;
const SET_VRING_ADDR: u32 = 0x4028_af11;
const SET_VRING_BASE: u32 = 0x4008_af12;
const SET_VRING_KICK: u32 = 0x4008_af20;
const SET_VRING_CALL: u32 = 0x4008_af21;
const SET_VRING_BUSYLOOP_TIMEOUT: u32 = 0x4008_af23;
const NET_SET_BACKEND: u32 = 0x4008_af30;
const VSOCK_SET_GUEST_CID: u32 = 0x4008_af60;
const VSOCK_SET_RUNNING: u32 = 0x4004_af61;

/// `struct vhost_vring_state` and `struct vhost_vring_file`.
type Pair = [i32; 2];

/// `struct vhost_vring_addr`: host addresses.
#[repr(C)]
struct Addresses {
    index: u32,
    flags: u32,
    descriptors: u64,
    used: u64,
    available: u64,
    log: u64,
}

/// An open vhost device, owned by this process.
#[derive(Debug)]
pub struct Vhost(File);

impl Vhost {
    /// Opens one.
    pub fn open(path: &str) -> io::Result<Vhost> {
        let vhost = Vhost(OpenOptions::new().read(true).write(true).open(path)?);
        vhost.call(SET_OWNER, std::ptr::null_mut::<u8>())?;
        Ok(vhost)
    }

    fn call<T>(&self, number: u32, argument: *mut T) -> io::Result<()> {
        // SAFETY: callers pass what the request reads or writes, alive for as long as the call.
        let code = unsafe { libc::ioctl(self.0.as_raw_fd(), number as _, argument) };
        if code < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Feature bits that it can serve.
    pub fn features(&self) -> io::Result<u64> {
        let mut features = 0_u64;
        self.call(GET_FEATURES, &mut features)?;
        Ok(features)
    }

    pub fn set_features(&self, mut features: u64) -> io::Result<()> {
        self.call(SET_FEATURES, &mut features)
    }

    /// Where guest memory is in this process. The caller keeps it mapped while a backend is set.
    pub fn set_memory(&self, memory: &Memory) -> io::Result<()> {
        let mut table = vec![memory.num_regions() as u64];
        for region in memory.iter() {
            let host = memory.get_host_address(region.start_addr()).map_err(io::Error::other)?;
            table.extend([region.start_addr().raw_value(), region.len(), host as u64, 0]);
        }
        self.call(SET_MEM_TABLE, table.as_mut_ptr())
    }

    /// A ring as it goes on, its kick, and its interrupt if there is one.
    pub fn set_ring(&self, index: u32, queue: &QueueResources) -> io::Result<()> {
        let QueueResources { layout, base, memory, kick, call, .. } = queue;
        let host = |address, len| {
            let host = host_address(memory, address, len).map(|host| host as u64);
            host.ok_or_else(|| io::Error::from_raw_os_error(libc::EFAULT))
        };
        let size = u64::from(layout.size);
        let mut addresses = Addresses {
            index,
            flags: 0,
            descriptors: host(layout.descriptors, 16 * size)?,
            used: host(layout.used, 6 + 8 * size)?,
            available: host(layout.available, 6 + 2 * size)?,
            log: 0,
        };
        self.set(SET_VRING_NUM, index, layout.size.into())?;
        self.set(SET_VRING_BASE, index, (*base).into())?;
        self.call(SET_VRING_ADDR, &mut addresses)?;
        self.set_call(index, call.event())?;
        self.set(SET_VRING_KICK, index, kick.as_raw_fd())
    }

    /// Whom the kernel tells that buffers were used; nobody where there is none.
    pub fn set_call(&self, index: u32, call: Option<&EventFd>) -> io::Result<()> {
        self.set(SET_VRING_CALL, index, call.map_or(-1, AsRawFd::as_raw_fd))
    }

    /// How long the kernel's thread polls before it sleeps, in microseconds.
    pub fn set_busy_poll(&self, index: u32, us: u32) -> io::Result<()> {
        self.set(SET_VRING_BUSYLOOP_TIMEOUT, index, us as i32)
    }

    /// Starts a ring on this tap; `None` stops it, and returns once nothing of it is in flight.
    pub fn set_backend(&self, index: u32, tap: Option<BorrowedFd<'_>>) -> io::Result<()> {
        self.set(NET_SET_BACKEND, index, tap.map_or(-1, |tap| tap.as_raw_fd()))
    }

    /// Where a ring that was stopped goes on.
    pub fn base(&self, index: u32) -> io::Result<u16> {
        let mut pair: Pair = [index as i32, 0];
        self.call(GET_VRING_BASE, &mut pair)?;
        Ok(pair[1] as u16)
    }

    /// vhost-vsock: by which number the host's programs reach the guest.
    pub fn set_guest_cid(&self, mut cid: u64) -> io::Result<()> {
        self.call(VSOCK_SET_GUEST_CID, &mut cid)
    }

    /// vhost-vsock: starts all rings, or stops them and returns once nothing of them is in flight.
    pub fn set_vsock_running(&self, running: bool) -> io::Result<()> {
        self.call(VSOCK_SET_RUNNING, &mut i32::from(running))
    }

    fn set(&self, number: u32, index: u32, value: RawFd) -> io::Result<()> {
        let mut pair: Pair = [index as i32, value];
        self.call(number, &mut pair)
    }
}
