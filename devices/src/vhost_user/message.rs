//! The words of vhost-user (QEMU, docs/interop/vhost-user.rst): headers, requests and payloads to
//! bytes and back. Pure, and shared by both ends, each of which takes the other for hostile: what
//! doesn't decode is a [`MessageError`], and nothing here panics or allocates by what a peer says.
//!
//! ```text
//!  0        4        8        12
//!  ├ code ──┼ flags ─┼ size ──┼ payload: `size` bytes …      fds ride along as SCM_RIGHTS
//! ```

mod payload;
#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;

pub use payload::{Addresses, ConfigSpace, Inflight, MOST_CONFIG, Region, RingFd, RingState};
use payload::{memory_table, region, ring_fd};

/// Bytes of a header.
pub const HEADER: usize = 12;
/// Bytes of a payload at most: those of [`Request::SetConfig`] and its like with all they may hold.
pub const MOST_PAYLOAD: usize = 12 + MOST_CONFIG;
/// Regions of [`Request::SetMemTable`], and so fds of any message.
pub const MOST_REGIONS: usize = 8;

/// VHOST_USER_F_PROTOCOL_FEATURES, among the device's feature bits.
pub const F_PROTOCOL: u64 = 1 << 30;

/// Protocol features, as [`Request::SetProtocolFeatures`] has them.
pub mod protocol {
    pub const MQ: u64 = 1 << 0;
    pub const REPLY_ACK: u64 = 1 << 3;
    pub const MTU: u64 = 1 << 4;
    pub const BACKEND_REQ: u64 = 1 << 5;
    pub const CONFIG: u64 = 1 << 9;
    pub const INFLIGHT_SHMFD: u64 = 1 << 12;
    pub const RESET_DEVICE: u64 = 1 << 13;
    pub const CONFIGURE_MEM_SLOTS: u64 = 1 << 15;
    pub const STATUS: u64 = 1 << 16;
}

/// What a peer sent makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    #[error("protocol version {0}, not 1")]
    Version(u32),
    #[error("a payload of {0} bytes, where {MOST_PAYLOAD} are the most")]
    Long(u32),
    #[error("request {0}, which is unknown")]
    Unknown(u32),
    #[error("{0:?} with a payload of {1} bytes")]
    Size(Code, usize),
    #[error("{0:?} for {1} memory regions, where {MOST_REGIONS} are the most")]
    Regions(Code, u32),
    #[error("{0:?} with {1} file descriptors")]
    Fds(Code, usize),
}

/// What precedes every payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// A [`Code`], or none that is known.
    pub code: u32,
    /// An answer; in a request, false.
    pub reply: bool,
    /// The sender waits for an answer to a request that has none of its own (REPLY_ACK).
    pub need_reply: bool,
    /// Bytes of payload that follow, [`MOST_PAYLOAD`] at most.
    pub size: u32,
}

const VERSION: u32 = 1;
const REPLY: u32 = 1 << 2;
const NEED_REPLY: u32 = 1 << 3;

impl Header {
    /// Checks the version and the size.
    pub fn decode(bytes: &[u8; HEADER]) -> Result<Header, MessageError> {
        let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let (code, flags, size) = (word(0), word(4), word(8));
        if flags & 3 != VERSION {
            return Err(MessageError::Version(flags & 3));
        }
        if size as usize > MOST_PAYLOAD {
            return Err(MessageError::Long(size));
        }
        Ok(Header { code, reply: flags & REPLY != 0, need_reply: flags & NEED_REPLY != 0, size })
    }

    pub fn encode(&self) -> [u8; HEADER] {
        let flag = |on, bit| if on { bit } else { 0 };
        let flags = VERSION | flag(self.reply, REPLY) | flag(self.need_reply, NEED_REPLY);
        let mut bytes = [0; HEADER];
        for (at, word) in [(0, self.code), (4, flags), (8, self.size)] {
            bytes[at..at + 4].copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }
}

/// What a front end may ask, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Code {
    GetFeatures = 1,
    SetFeatures = 2,
    SetOwner = 3,
    ResetOwner = 4,
    SetMemTable = 5,
    SetVringNum = 8,
    SetVringAddr = 9,
    SetVringBase = 10,
    GetVringBase = 11,
    SetVringKick = 12,
    SetVringCall = 13,
    SetVringErr = 14,
    GetProtocolFeatures = 15,
    SetProtocolFeatures = 16,
    GetQueueNum = 17,
    SetVringEnable = 18,
    NetSetMtu = 20,
    SetBackendReqFd = 21,
    GetConfig = 24,
    SetConfig = 25,
    GetInflightFd = 31,
    SetInflightFd = 32,
    ResetDevice = 34,
    GetMaxMemSlots = 36,
    AddMemReg = 37,
    RemMemReg = 38,
    SetStatus = 39,
    GetStatus = 40,
}

/// On the channel of [`Request::SetBackendReqFd`]: the configuration space has changed. The only one
/// that a backend may send there unless more was negotiated.
pub const CONFIG_CHANGED: u32 = 2;

impl Code {
    pub const ALL: [Code; 28] = [
        Code::GetFeatures,
        Code::SetFeatures,
        Code::SetOwner,
        Code::ResetOwner,
        Code::SetMemTable,
        Code::SetVringNum,
        Code::SetVringAddr,
        Code::SetVringBase,
        Code::GetVringBase,
        Code::SetVringKick,
        Code::SetVringCall,
        Code::SetVringErr,
        Code::GetProtocolFeatures,
        Code::SetProtocolFeatures,
        Code::GetQueueNum,
        Code::SetVringEnable,
        Code::NetSetMtu,
        Code::SetBackendReqFd,
        Code::GetConfig,
        Code::SetConfig,
        Code::GetInflightFd,
        Code::SetInflightFd,
        Code::ResetDevice,
        Code::GetMaxMemSlots,
        Code::AddMemReg,
        Code::RemMemReg,
        Code::SetStatus,
        Code::GetStatus,
    ];

    /// The code of this number.
    pub fn from_number(number: u32) -> Option<Code> {
        Code::ALL.into_iter().find(|&code| code as u32 == number)
    }

    /// Requests that have an answer of their own; to the others there is one only where it is asked
    /// for: a `u64`, 0 for success.
    pub fn answered(self) -> bool {
        matches!(
            self,
            Code::GetFeatures
                | Code::GetVringBase
                | Code::GetProtocolFeatures
                | Code::GetQueueNum
                | Code::GetConfig
                | Code::GetInflightFd
                | Code::GetMaxMemSlots
                | Code::GetStatus
        )
    }
}

/// What a front end asks, with what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    GetFeatures,
    SetFeatures(u64),
    SetOwner,
    ResetOwner,
    /// An fd for each region.
    SetMemTable(Vec<Region>),
    SetVringNum(RingState),
    SetVringAddr(Addresses),
    SetVringBase(RingState),
    /// Stops the ring. Answered by a [`RingState`].
    GetVringBase(RingState),
    SetVringKick(RingFd),
    SetVringCall(RingFd),
    SetVringErr(RingFd),
    GetProtocolFeatures,
    SetProtocolFeatures(u64),
    GetQueueNum,
    SetVringEnable(RingState),
    NetSetMtu(u64),
    SetBackendReqFd,
    /// Answered by the same with the bytes filled in, or by an empty payload where it fails.
    GetConfig(ConfigSpace),
    SetConfig(ConfigSpace),
    /// Answered by an [`Inflight`] and an fd.
    GetInflightFd(Inflight),
    SetInflightFd(Inflight),
    ResetDevice,
    GetMaxMemSlots,
    AddMemReg(Region),
    RemMemReg(Region),
    SetStatus(u64),
    GetStatus,
}

impl Request {
    pub fn code(&self) -> Code {
        match self {
            Request::GetFeatures => Code::GetFeatures,
            Request::SetFeatures(_) => Code::SetFeatures,
            Request::SetOwner => Code::SetOwner,
            Request::ResetOwner => Code::ResetOwner,
            Request::SetMemTable(_) => Code::SetMemTable,
            Request::SetVringNum(_) => Code::SetVringNum,
            Request::SetVringAddr(_) => Code::SetVringAddr,
            Request::SetVringBase(_) => Code::SetVringBase,
            Request::GetVringBase(_) => Code::GetVringBase,
            Request::SetVringKick(_) => Code::SetVringKick,
            Request::SetVringCall(_) => Code::SetVringCall,
            Request::SetVringErr(_) => Code::SetVringErr,
            Request::GetProtocolFeatures => Code::GetProtocolFeatures,
            Request::SetProtocolFeatures(_) => Code::SetProtocolFeatures,
            Request::GetQueueNum => Code::GetQueueNum,
            Request::SetVringEnable(_) => Code::SetVringEnable,
            Request::NetSetMtu(_) => Code::NetSetMtu,
            Request::SetBackendReqFd => Code::SetBackendReqFd,
            Request::GetConfig(_) => Code::GetConfig,
            Request::SetConfig(_) => Code::SetConfig,
            Request::GetInflightFd(_) => Code::GetInflightFd,
            Request::SetInflightFd(_) => Code::SetInflightFd,
            Request::ResetDevice => Code::ResetDevice,
            Request::GetMaxMemSlots => Code::GetMaxMemSlots,
            Request::AddMemReg(_) => Code::AddMemReg,
            Request::RemMemReg(_) => Code::RemMemReg,
            Request::SetStatus(_) => Code::SetStatus,
            Request::GetStatus => Code::GetStatus,
        }
    }

    /// How many fds come with it.
    pub fn fds(&self) -> RangeInclusive<usize> {
        match self {
            Request::SetMemTable(regions) => regions.len()..=regions.len(),
            Request::SetVringKick(fd) | Request::SetVringCall(fd) | Request::SetVringErr(fd) => {
                let count = usize::from(fd.present);
                count..=count
            }
            Request::SetBackendReqFd | Request::SetInflightFd(_) | Request::AddMemReg(_) => 1..=1,
            // Some front ends send the region's fd along.
            Request::RemMemReg(_) => 0..=1,
            _ => 0..=0,
        }
    }

    /// The payload.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Request::SetFeatures(value)
            | Request::SetProtocolFeatures(value)
            | Request::NetSetMtu(value)
            | Request::SetStatus(value) => value.to_ne_bytes().to_vec(),
            Request::SetVringNum(state)
            | Request::SetVringBase(state)
            | Request::GetVringBase(state)
            | Request::SetVringEnable(state) => state.encode(),
            Request::SetMemTable(regions) => memory_table::encode(regions),
            Request::SetVringAddr(addresses) => addresses.encode(),
            Request::SetVringKick(fd) | Request::SetVringCall(fd) | Request::SetVringErr(fd) => {
                ring_fd::encode(*fd)
            }
            Request::GetConfig(space) | Request::SetConfig(space) => space.encode(),
            Request::GetInflightFd(inflight) | Request::SetInflightFd(inflight) => inflight.encode(),
            Request::AddMemReg(one) | Request::RemMemReg(one) => region::encode(one),
            Request::GetFeatures
            | Request::SetOwner
            | Request::ResetOwner
            | Request::GetProtocolFeatures
            | Request::GetQueueNum
            | Request::SetBackendReqFd
            | Request::ResetDevice
            | Request::GetMaxMemSlots
            | Request::GetStatus => Vec::new(),
        }
    }

    /// The request that `header` announces, whose payload is `bytes` and came with so many `fds`.
    pub fn decode(header: &Header, bytes: &[u8], fds: usize) -> Result<Request, MessageError> {
        let code = Code::from_number(header.code).ok_or(MessageError::Unknown(header.code))?;
        let wrong = MessageError::Size(code, bytes.len());
        let number = || u64_from(bytes).ok_or(wrong);
        let state = || RingState::decode(bytes).ok_or(wrong);
        let fd = || ring_fd::decode(bytes).ok_or(wrong);
        let space = || ConfigSpace::decode(bytes).ok_or(wrong);
        let inflight = || Inflight::decode(bytes).ok_or(wrong);
        let one = || region::decode(bytes).ok_or(wrong);
        let bare = |request| if bytes.is_empty() { Ok(request) } else { Err(wrong) };
        let request = match code {
            Code::GetFeatures => bare(Request::GetFeatures)?,
            Code::SetFeatures => Request::SetFeatures(number()?),
            Code::SetOwner => bare(Request::SetOwner)?,
            Code::ResetOwner => bare(Request::ResetOwner)?,
            Code::SetMemTable => Request::SetMemTable(memory_table::decode(bytes)?),
            Code::SetVringNum => Request::SetVringNum(state()?),
            Code::SetVringAddr => Request::SetVringAddr(Addresses::decode(bytes).ok_or(wrong)?),
            Code::SetVringBase => Request::SetVringBase(state()?),
            Code::GetVringBase => Request::GetVringBase(state()?),
            Code::SetVringKick => Request::SetVringKick(fd()?),
            Code::SetVringCall => Request::SetVringCall(fd()?),
            Code::SetVringErr => Request::SetVringErr(fd()?),
            Code::GetProtocolFeatures => bare(Request::GetProtocolFeatures)?,
            Code::SetProtocolFeatures => Request::SetProtocolFeatures(number()?),
            Code::GetQueueNum => bare(Request::GetQueueNum)?,
            Code::SetVringEnable => Request::SetVringEnable(state()?),
            Code::NetSetMtu => Request::NetSetMtu(number()?),
            Code::SetBackendReqFd => bare(Request::SetBackendReqFd)?,
            Code::GetConfig => Request::GetConfig(space()?),
            Code::SetConfig => Request::SetConfig(space()?),
            Code::GetInflightFd => Request::GetInflightFd(inflight()?),
            Code::SetInflightFd => Request::SetInflightFd(inflight()?),
            Code::ResetDevice => bare(Request::ResetDevice)?,
            Code::GetMaxMemSlots => bare(Request::GetMaxMemSlots)?,
            Code::AddMemReg => Request::AddMemReg(one()?),
            Code::RemMemReg => Request::RemMemReg(one()?),
            Code::SetStatus => Request::SetStatus(number()?),
            Code::GetStatus => bare(Request::GetStatus)?,
        };
        if request.fds().contains(&fds) { Ok(request) } else { Err(MessageError::Fds(code, fds)) }
    }
}

/// A payload that is one number.
pub fn u64_from(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.try_into().ok()?))
}
