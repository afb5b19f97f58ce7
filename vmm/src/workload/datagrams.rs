//! UDP by sockets, one system call for each datagram.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use workloads::platform::{Datagrams, Peer, Unavailable};

use crate::sys::clock;

/// A bound UDP port.
pub struct Socket {
    socket: UdpSocket,
    poll: bool,
}

/// Longest sleep before the deadline is looked at again: a socket's timeout is set once.
const NAP: Duration = Duration::from_millis(100);

impl Socket {
    /// `poll`: never sleep for a datagram.
    pub fn bind(port: u16, poll: bool) -> Result<Socket, Unavailable> {
        let socket =
            UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).map_err(|_| Unavailable("port-in-use"))?;
        let set = if poll { socket.set_nonblocking(true) } else { socket.set_read_timeout(Some(NAP)) };
        set.map_err(|_| Unavailable("no-socket-options"))?;
        Ok(Socket { socket, poll })
    }
}

fn now_ns() -> u64 {
    clock::now_ns(libc::CLOCK_MONOTONIC)
}

impl Datagrams for Socket {
    fn send(&self, to: Peer, payload: &[u8]) -> bool {
        self.socket.send_to(payload, SocketAddrV4::new(to.address.into(), to.port)).is_ok()
    }

    fn receive(&self, payload: &mut [u8], deadline: u64) -> Option<(usize, Peer)> {
        // A sender looks whether anything has come back: it must not sleep for that.
        let look = deadline == 0 && !self.poll;
        if look && self.socket.set_nonblocking(true).is_err() {
            return None;
        }
        let received = self.receive_until(payload, deadline);
        if look && self.socket.set_nonblocking(false).is_err() {
            return None;
        }
        received
    }
}

impl Socket {
    fn receive_until(&self, payload: &mut [u8], deadline: u64) -> Option<(usize, Peer)> {
        loop {
            match self.socket.recv_from(payload) {
                Ok((len, SocketAddr::V4(from))) => {
                    return Some((len, Peer { address: from.ip().octets(), port: from.port() }));
                }
                // A refusal by the peer's kernel (ICMP) comes back as an error: nothing was received.
                Ok(_) | Err(_) if now_ns() >= deadline => return None,
                Err(error) if self.poll && error.kind() == ErrorKind::WouldBlock => std::hint::spin_loop(),
                Ok(_) | Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_comes_back_to_its_sender() {
        for poll in [false, true] {
            let (a, b) = (Socket::bind(0, poll).unwrap(), Socket::bind(0, poll).unwrap());
            let port = b.socket.local_addr().unwrap().port();
            let soon = now_ns() + 5_000_000_000;
            let mut bytes = [0; 4];
            assert!(a.send(Peer { address: [127, 0, 0, 1], port }, b"ask"));
            let (len, from) = b.receive(&mut bytes, soon).unwrap();
            assert!(b.send(from, &bytes[..len]));
            assert_eq!(a.receive(&mut bytes, soon).map(|(len, from)| (len, from.port)), Some((3, port)));
            assert_eq!(&bytes[..3], b"ask");
            assert_eq!(a.receive(&mut bytes, now_ns() + 1_000_000), None);
        }
    }
}
