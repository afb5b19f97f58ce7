//! Messages over a socket, with the file descriptors that ride along. A peer that closes, stalls or
//! babbles is an error within a set time, never a wait without end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::message::{Code, HEADER, Header, MOST_REGIONS, MessageError, Request};
use crate::sys::socket;

/// What became of a peer.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    #[error("the peer closed the connection")]
    Closed,
    #[error("the peer closed the connection in the middle of a message")]
    Cut,
    #[error("the peer did not answer within {} s", .0.as_secs_f32())]
    Silent(Duration),
    #[error("the peer sent {0}")]
    Nonsense(#[from] MessageError),
    #[error("the peer sent more than {MOST_REGIONS} file descriptors with one message")]
    Fds,
    #[error("the peer spoke without being asked")]
    Unasked,
    #[error("{0}")]
    Socket(#[from] io::Error),
}

/// One message as it arrived.
#[derive(Debug)]
pub struct Incoming {
    pub header: Header,
    pub payload: Vec<u8>,
    /// At most one for each memory region.
    pub fds: Vec<OwnedFd>,
}

impl Incoming {
    /// As what a front end asks.
    pub fn request(&self) -> Result<Request, MessageError> {
        Request::decode(&self.header, &self.payload, self.fds.len())
    }
}

/// One end of a connection.
#[derive(Debug)]
pub struct Channel {
    stream: Arc<UnixStream>,
    /// How long a message may take, from its first byte to its last.
    patience: Duration,
}

impl Channel {
    /// A connection whose peer may take `patience` for a message once it has begun.
    pub fn new(stream: impl Into<Arc<UnixStream>>, patience: Duration) -> io::Result<Channel> {
        let stream = stream.into();
        stream.set_nonblocking(true)?;
        Ok(Channel { stream, patience })
    }

    /// Sends a request.
    pub fn ask(&self, request: &Request, need_reply: bool, fds: &[BorrowedFd<'_>]) -> Result<(), PeerError> {
        let payload = request.encode();
        let (code, size) = (request.code() as u32, payload.len() as u32);
        self.send(&Header { code, reply: false, need_reply, size }, &payload, fds)
    }

    /// Sends the answer to a request.
    pub fn answer(&self, code: Code, payload: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), PeerError> {
        self.reply(code as u32, payload, fds)
    }

    /// The same, to whatever was asked.
    pub fn reply(&self, code: u32, payload: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), PeerError> {
        self.send(&Header { code, reply: true, need_reply: false, size: payload.len() as u32 }, payload, fds)
    }

    /// Bytes, whatever they say.
    #[cfg(test)]
    pub fn send_raw(&self, bytes: &[u8]) -> Result<(), PeerError> {
        Ok(socket::send(&self.stream, bytes, &[]).map(drop)?)
    }

    /// Says something that has no payload and no answer.
    #[cfg(test)]
    pub fn notify(&self, code: u32) -> Result<(), PeerError> {
        self.send(&Header { code, reply: false, need_reply: false, size: 0 }, &[], &[])
    }

    fn send(&self, header: &Header, payload: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), PeerError> {
        let bytes = [&header.encode(), payload].concat();
        let (mut sent, mut fds, deadline) = (0, fds, Instant::now() + self.patience);
        while sent < bytes.len() {
            match socket::send(&self.stream, &bytes[sent..], fds) {
                Ok(count) => (sent, fds) = (sent + count, &[]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(socket::Ready::Write, deadline)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if gone(&error) => return Err(PeerError::Closed),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Receives the next message, whenever it begins.
    pub fn receive(&self) -> Result<Incoming, PeerError> {
        socket::wait(self.stream.as_fd(), socket::Ready::Read, None)?;
        self.receive_soon()
    }

    /// Receives a message that is due now.
    pub fn receive_soon(&self) -> Result<Incoming, PeerError> {
        let (mut header, mut fds, deadline) = ([0; HEADER], Vec::new(), Instant::now() + self.patience);
        self.fill(&mut header, &mut fds, deadline, PeerError::Closed)?;
        let header = Header::decode(&header)?;
        let mut payload = vec![0; header.size as usize];
        self.fill(&mut payload, &mut fds, deadline, PeerError::Cut)?;
        Ok(Incoming { header, payload, fds })
    }

    /// Fills `bytes`; `closed` is what it means if the peer closes before the first of them.
    fn fill(
        &self,
        bytes: &mut [u8],
        fds: &mut Vec<OwnedFd>,
        deadline: Instant,
        closed: PeerError,
    ) -> Result<(), PeerError> {
        let mut filled = 0;
        while filled < bytes.len() {
            match socket::receive(&self.stream, &mut bytes[filled..], fds) {
                Ok(0) => return Err(if filled == 0 { closed } else { PeerError::Cut }),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(socket::Ready::Read, deadline)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if gone(&error) => return Err(PeerError::Closed),
                Err(error) if error.raw_os_error() == Some(socket::TOO_MANY_FDS) => {
                    return Err(PeerError::Fds);
                }
                Err(error) => return Err(error.into()),
            }
            if fds.len() > MOST_REGIONS {
                return Err(PeerError::Fds);
            }
        }
        Ok(())
    }

    fn wait(&self, ready: socket::Ready, deadline: Instant) -> Result<(), PeerError> {
        let left = deadline.saturating_duration_since(Instant::now());
        if !left.is_zero() && socket::wait(self.stream.as_fd(), ready, Some(left))? {
            Ok(())
        } else {
            Err(PeerError::Silent(self.patience))
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

#[cfg(test)]
mod tests;
