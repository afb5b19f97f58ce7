//! A network interface: its address, and up (netdevice(7)).

use std::ffi::{c_char, c_short};
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;

use super::checked;

/// Ioctls that a socket passes on to an interface (uapi/linux/sockios.h).
const GET_FLAGS: u32 = 0x8913;
const SET_FLAGS: u32 = 0x8914;
const SET_ADDRESS: u32 = 0x8916;
const SET_MASK: u32 = 0x891c;
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
    let mut bytes = [0; 14];
    // `struct sockaddr_in` behind its family: port, address.
    for (to, from) in bytes[2..].iter_mut().zip(address.octets()) {
        *to = from as c_char;
    }
    interface.ifr_ifru.ifru_addr =
        libc::sockaddr { sa_family: libc::AF_INET as libc::sa_family_t, sa_data: bytes };
    interface
}
