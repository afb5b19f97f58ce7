//! A front end's connection to a peer that serves queues: what the two agree on, and one question or
//! statement after the other.
//!
//! ```text
//!  connect ─► GET_FEATURES ─► GET/SET_PROTOCOL_FEATURES ─► GET_QUEUE_NUM ─► SET_OWNER
//! ```

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;

use super::channel::{Channel, Incoming, PeerError};
use super::message::{CONFIG_CHANGED, Code, ConfigSpace, F_PROTOCOL, Request, protocol, u64_from};
use crate::sys::socket;

/// Protocol features of use here. No memory slots: guest memory is a few regions that never change, and
/// one message has room for them.
const WANTED: u64 =
    protocol::MQ | protocol::REPLY_ACK | protocol::CONFIG | protocol::INFLIGHT_SHMFD | protocol::BACKEND_REQ;

/// Where a peer listens, and how long it may think.
#[derive(Clone, Debug)]
pub struct Address {
    pub socket: PathBuf,
    /// For each answer. Stopping a ring waits for requests in flight.
    pub patience: Duration,
}

impl Address {
    /// A peer on this host answers in microseconds; a disk of its own may take seconds to drain.
    pub fn new(socket: &Path) -> Address {
        Address { socket: socket.into(), patience: Duration::from_secs(5) }
    }

    /// Calls it.
    pub fn connect(&self) -> Result<Arc<UnixStream>, SessionError> {
        socket::connect(&self.socket).map(Arc::new).map_err(SessionError::Connect)
    }
}

/// Why a peer can't serve.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error("connect: {0}{hint}", hint = hint(.0))]
    Connect(io::Error),
    #[error("{0:?}: {1}")]
    Peer(Code, PeerError),
    #[error("{0:?}: the peer answered something else")]
    Answer(Code),
    #[error("{0:?}: the peer refused it, with {1}")]
    Refused(Code, u64),
    #[error("the peer does not offer {0}")]
    Lacks(&'static str),
    #[error("the peer serves {has} queues, {asked} were asked")]
    Queues { asked: u16, has: u64 },
    #[error("the peer no longer offers features {0:#x}")]
    Fewer(u64),
    #[error("guest memory is not shared with other processes")]
    Private,
    #[error("its rings are not in guest memory")]
    Place,
    #[error("{0}")]
    Lost(PeerError),
    #[error("make a socket for its requests: {0}")]
    Socket(io::Error),
}

impl SessionError {
    /// Whether the peer is there, and says nothing.
    pub fn is_silence(&self) -> bool {
        matches!(self, SessionError::Peer(_, PeerError::Silent(_)))
    }
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => "; start its backend first",
        io::ErrorKind::WouldBlock => "; its backend answers nobody",
        _ => "",
    }
}

/// A peer, and what was agreed with it.
#[derive(Debug)]
pub struct Session {
    channel: Channel,
    /// What the peer asks of us; only with BACKEND_REQ.
    notices: Option<Channel>,
    features: u64,
    protocol: u64,
    /// The most queues, or queue pairs of a network card, that it serves.
    queues: u64,
}

impl Session {
    /// Connects, and agrees on what can be used.
    pub fn open(address: &Address) -> Result<Session, SessionError> {
        Session::meet(address.connect()?, address.patience)
    }

    /// Agrees with the peer at the other end on what can be used.
    pub fn meet(stream: impl Into<Arc<UnixStream>>, patience: Duration) -> Result<Session, SessionError> {
        let channel = Channel::new(stream, patience).map_err(SessionError::Socket)?;
        let mut session = Session { channel, notices: None, features: 0, protocol: 0, queues: 1 };
        session.features = session.number(&Request::GetFeatures)?;
        if !session.has_feature(VIRTIO_F_VERSION_1) {
            return Err(SessionError::Lacks("VIRTIO_F_VERSION_1"));
        }
        if session.features & F_PROTOCOL != 0 {
            let agreed = session.number(&Request::GetProtocolFeatures)? & WANTED;
            session.tell(&Request::SetProtocolFeatures(agreed), &[])?;
            session.protocol = agreed;
        }
        if session.agreed(protocol::MQ) {
            session.queues = session.number(&Request::GetQueueNum)?;
        }
        if session.agreed(protocol::BACKEND_REQ) {
            let (ours, theirs) = UnixStream::pair().map_err(SessionError::Socket)?;
            session.tell(&Request::SetBackendReqFd, &[theirs.as_fd()])?;
            session.notices = Some(Channel::new(ours, patience).map_err(SessionError::Socket)?);
        }
        session.tell(&Request::SetOwner, &[])?;
        Ok(session)
    }

    /// The device's features, as the peer has them.
    pub fn features(&self) -> u64 {
        self.features & !F_PROTOCOL
    }

    fn has_feature(&self, bit: u32) -> bool {
        self.features & 1 << bit != 0
    }

    /// Whether both ends have this of [`protocol`].
    pub fn agreed(&self, feature: u64) -> bool {
        self.protocol & feature != 0
    }

    /// With protocol features, and only then, rings are switched on and off one by one.
    pub fn switches_rings(&self) -> bool {
        self.features & F_PROTOCOL != 0
    }

    /// Whether it serves so many queues, or queue pairs.
    pub fn serves(&self, asked: u16) -> Result<(), SessionError> {
        let has = self.queues;
        if has < asked.into() { Err(SessionError::Queues { asked, has }) } else { Ok(()) }
    }

    /// Asks what has an answer of its own.
    pub fn ask(&self, request: &Request) -> Result<Incoming, SessionError> {
        let code = request.code();
        self.channel.ask(request, false, &[]).map_err(|error| SessionError::Peer(code, error))?;
        self.answer(code)
    }

    fn answer(&self, code: Code) -> Result<Incoming, SessionError> {
        let answer = self.channel.receive_soon().map_err(|error| SessionError::Peer(code, error))?;
        let fits = answer.header.reply && answer.header.code == code as u32;
        if fits { Ok(answer) } else { Err(SessionError::Answer(code)) }
    }

    fn number(&self, request: &Request) -> Result<u64, SessionError> {
        u64_from(&self.ask(request)?.payload).ok_or(SessionError::Answer(request.code()))
    }

    /// Says what has no answer of its own; where the peer can, it says whether it went well.
    pub fn tell(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<(), SessionError> {
        let (code, acknowledged) = (request.code(), self.agreed(protocol::REPLY_ACK));
        self.channel.ask(request, acknowledged, fds).map_err(|error| SessionError::Peer(code, error))?;
        if !acknowledged {
            return Ok(());
        }
        match u64_from(&self.answer(code)?.payload) {
            Some(0) => Ok(()),
            Some(other) => Err(SessionError::Refused(code, other)),
            None => Err(SessionError::Answer(code)),
        }
    }

    /// The first `len` bytes of the device's configuration space.
    pub fn config(&self, len: usize) -> Result<Vec<u8>, SessionError> {
        if !self.agreed(protocol::CONFIG) {
            return Err(SessionError::Lacks("VHOST_USER_PROTOCOL_F_CONFIG"));
        }
        let asked = ConfigSpace { offset: 0, flags: 0, bytes: vec![0; len] };
        let answer = self.ask(&Request::GetConfig(asked))?;
        match ConfigSpace::decode(&answer.payload) {
            Some(space) if space.offset == 0 && space.bytes.len() == len => Ok(space.bytes),
            _ => Err(SessionError::Answer(Code::GetConfig)),
        }
    }

    /// What becomes readable when the peer closes or speaks unasked.
    pub fn line(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// Whether it is still there, and silent, as it has to be.
    pub fn look(&self) -> Result<(), PeerError> {
        if !socket::wait(self.line(), socket::Ready::Read, Some(Duration::ZERO))? {
            return Ok(());
        }
        self.channel.receive_soon()?;
        Err(PeerError::Unasked)
    }

    /// Where the peer asks something of us.
    pub fn notices(&self) -> Option<&Channel> {
        self.notices.as_ref()
    }
}

/// Takes the next of a peer's notices: true if the configuration space has changed.
pub fn hear(notices: &Channel) -> Result<bool, PeerError> {
    let notice = notices.receive_soon()?.header;
    if notice.need_reply {
        let known = notice.code == CONFIG_CHANGED;
        notices.reply(notice.code, &u64::from(!known).to_ne_bytes(), &[])?;
    }
    Ok(notice.code == CONFIG_CHANGED)
}
