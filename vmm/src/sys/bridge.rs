//! Taps and bridges of our own, made and removed again (linux/sockios.h, linux/if_tun.h).

use std::ffi::{c_char, c_short};
use std::fs::{File, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;

use super::checked;
use super::interface::named;

const GET_FLAGS: u32 = 0x8913;
const SET_FLAGS: u32 = 0x8914;
const GET_INDEX: u32 = 0x8933;
const ADD_BRIDGE: u32 = 0x89a0;
const DEL_BRIDGE: u32 = 0x89a1;
const ADD_TO_BRIDGE: u32 = 0x89a2;
const TUN_SET: u32 = 0x4004_54ca;
const TUN_PERSIST: u32 = 0x4004_54cb;

fn socket() -> io::Result<UdpSocket> {
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
}

fn ask(socket: &UdpSocket, request: u32, interface: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: an open socket, and a live `ifreq`, to which these requests write at the most.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), request as _, interface) };
    checked(result.into()).map(drop)
}

/// A queue of the tap called `name`, which is made where there is none.
fn tap(name: &str, many: bool) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    let mut interface = named(name);
    let queues = if many { libc::IFF_MULTI_QUEUE } else { 0 };
    interface.ifr_ifru.ifru_flags =
        (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | queues) as c_short;
    // SAFETY: an open tun device and a live `ifreq`.
    checked(unsafe { libc::ioctl(file.as_raw_fd(), TUN_SET as _, &mut interface) }.into())?;
    Ok(file)
}

fn persist(tap: &File, on: bool) -> io::Result<()> {
    // SAFETY: the argument is the value itself; no memory is involved.
    checked(unsafe { libc::ioctl(tap.as_raw_fd(), TUN_PERSIST as _, libc::c_ulong::from(on)) }.into())
        .map(drop)
}

/// Makes a tap that stays without anybody who holds it; `many`: of several queues.
pub fn make_tap(name: &str, many: bool) -> io::Result<()> {
    persist(&tap(name, many)?, true)
}

/// Removes what [`make_tap`] has made, once nobody holds it.
pub fn remove_tap(name: &str, many: bool) -> io::Result<()> {
    persist(&tap(name, many)?, false)
}

/// Makes a bridge.
pub fn make_bridge(name: &str) -> io::Result<()> {
    bridge(ADD_BRIDGE, name)
}

/// Removes a bridge that is down; its members stay.
pub fn remove_bridge(name: &str) -> io::Result<()> {
    set_up(name, false)?;
    bridge(DEL_BRIDGE, name)
}

fn bridge(request: u32, name: &str) -> io::Result<()> {
    let name: [c_char; libc::IFNAMSIZ] = named(name).ifr_name;
    // SAFETY: an open socket and a name of IFNAMSIZ bytes that ends in zero, which is read only.
    checked(unsafe { libc::ioctl(socket()?.as_raw_fd(), request as _, name.as_ptr()) }.into()).map(drop)
}

/// Makes an interface a member of a bridge.
pub fn add_to_bridge(bridge: &str, member: &str) -> io::Result<()> {
    let socket = socket()?;
    let mut found = named(member);
    ask(&socket, GET_INDEX, &mut found)?;
    let mut request = named(bridge);
    // SAFETY: the request above has filled in the index.
    request.ifr_ifru.ifru_ifindex = unsafe { found.ifr_ifru.ifru_ifindex };
    ask(&socket, ADD_TO_BRIDGE, &mut request)
}

/// Brings an interface up, or down.
pub fn set_up(name: &str, up: bool) -> io::Result<()> {
    let socket = socket()?;
    let mut interface = named(name);
    ask(&socket, GET_FLAGS, &mut interface)?;
    // SAFETY: the request above has filled in the flags.
    let flags = unsafe { interface.ifr_ifru.ifru_flags };
    let bit = libc::IFF_UP as c_short;
    interface.ifr_ifru.ifru_flags = if up { flags | bit } else { flags & !bit };
    ask(&socket, SET_FLAGS, &mut interface)
}
