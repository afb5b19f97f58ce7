//! A network interface: its address, and up (netdevice(7)).

use std::ffi::{c_char, c_int, c_short};
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;

use super::checked;

/// Ioctls that a socket passes on to an interface (uapi/linux/sockios.h).
const GET_FLAGS: u32 = 0x8913;
const SET_FLAGS: u32 = 0x8914;
const SET_ADDRESS: u32 = 0x8916;
const SET_MASK: u32 = 0x891c;
const GET_NEIGHBOUR: u32 = 0x8954;
/// The port of whoever throws everything away.
const DISCARD: u16 = 9;
/// A neighbour that has answered (uapi/linux/if_arp.h, ATF_COM).
const COMPLETE: c_int = 2;
/// The networks of a test are small.
const MASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);

/// Gives the interface `name` an address, and brings it up.
pub fn bring_up(name: &str, address: Ipv4Addr) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let ask = |request: u32, interface: &mut libc::ifreq| {
        // SAFETY: an open socket, and a live `ifreq` with what these requests read, which they write to
        // at the most.
        let result = unsafe { libc::ioctl(socket.as_raw_fd(), request as _, interface) };
        checked(result.into()).map(drop)
    };
    ask(SET_ADDRESS, &mut with_address(name, address))?;
    ask(SET_MASK, &mut with_address(name, MASK))?;
    let mut interface = named(name);
    ask(GET_FLAGS, &mut interface)?;
    // SAFETY: the request above has filled in the flags.
    let flags = unsafe { interface.ifr_ifru.ifru_flags };
    interface.ifr_ifru.ifru_flags = flags | libc::IFF_UP as c_short;
    ask(SET_FLAGS, &mut interface)
}

/// Whether the kernel knows who has `address` behind the interface (arp(7)); if not, it asks.
pub fn reaches(name: &str, address: Ipv4Addr) -> io::Result<bool> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // SAFETY: integers and arrays of them: all zero is a value.
    let mut entry: libc::arpreq = unsafe { std::mem::zeroed() };
    entry.arp_pa = socket_address(address);
    for (to, from) in entry.arp_dev.iter_mut().take(15).zip(name.bytes()) {
        *to = from as c_char;
    }
    // SAFETY: an open socket, and a live `arpreq`, to which the request writes at the most.
    let known = unsafe { libc::ioctl(socket.as_raw_fd(), GET_NEIGHBOUR as _, &mut entry) } == 0;
    if known && entry.arp_flags & COMPLETE != 0 {
        return Ok(true);
    }
    // What is sent is thrown away (RFC 863); that it can't be sent yet is what is being asked.
    let _ = socket.send_to(&[0], (address, DISCARD));
    Ok(false)
}

/// A name that is too long names no interface.
pub(super) fn named(name: &str) -> libc::ifreq {
    // SAFETY: integers and arrays of them: all zero is a value.
    let mut interface: libc::ifreq = unsafe { std::mem::zeroed() };
    let room = interface.ifr_name.len() - 1;
    for (to, from) in interface.ifr_name.iter_mut().zip(name.bytes().take(room)) {
        *to = from as c_char;
    }
    interface
}

fn with_address(name: &str, address: Ipv4Addr) -> libc::ifreq {
    let mut interface = named(name);
    interface.ifr_ifru.ifru_addr = socket_address(address);
    interface
}

/// `struct sockaddr_in`, without a port.
fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    let mut bytes = [0; 14];
    // Behind its family: port, address.
    for (to, from) in bytes[2..].iter_mut().zip(address.octets()) {
        *to = from as c_char;
    }
    libc::sockaddr { sa_family: libc::AF_INET as libc::sa_family_t, sa_data: bytes }
}
