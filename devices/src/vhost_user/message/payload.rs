//! Payloads. Each decodes from exactly its own bytes, or not at all.

/// A number that belongs to a ring: its size, an index, on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingState {
    pub index: u32,
    pub value: u32,
}

/// Where a ring lies, in the front end's own addresses, as [`Region::user`] gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    pub index: u32,
    /// Bit 0: log writes to the used ring.
    pub flags: u32,
    pub descriptors: u64,
    pub used: u64,
    pub available: u64,
    pub log: u64,
}

/// A piece of guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    pub guest: u64,
    pub size: u64,
    /// Where the front end has mapped it.
    pub user: u64,
    /// Where it begins in the fd that comes along.
    pub offset: u64,
}

/// Which ring an fd is for; where it is not `present` the ring has none: it is polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingFd {
    pub index: u8,
    pub present: bool,
}

/// Bytes of a device's configuration space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigSpace {
    pub offset: u32,
    /// 0: written by the driver.
    pub flags: u32,
    pub bytes: Vec<u8>,
}

/// Memory in which a backend notes the requests that it has taken and not yet given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inflight {
    pub size: u64,
    pub offset: u64,
    pub queues: u16,
    pub queue_size: u16,
}

/// Bytes of a configuration space at most.
pub const MOST_CONFIG: usize = 256;

/// Numbers off the front of a payload.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_ne_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_ne_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_ne_bytes)
    }

    /// What was read, if that was all.
    fn all<T>(self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }

    fn region(&mut self) -> Option<Region> {
        Some(Region { guest: self.u64()?, size: self.u64()?, user: self.u64()?, offset: self.u64()? })
    }
}

impl RingState {
    pub fn encode(&self) -> Vec<u8> {
        [self.index, self.value].map(u32::to_ne_bytes).concat()
    }

    pub fn decode(bytes: &[u8]) -> Option<RingState> {
        let mut reader = Reader(bytes);
        let state = RingState { index: reader.u32()?, value: reader.u32()? };
        reader.all(state)
    }
}

impl Addresses {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = [self.index, self.flags].map(u32::to_ne_bytes).concat();
        let addresses = [self.descriptors, self.used, self.available, self.log];
        bytes.extend(addresses.into_iter().flat_map(u64::to_ne_bytes));
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Addresses> {
        let mut reader = Reader(bytes);
        let addresses = Addresses {
            index: reader.u32()?,
            flags: reader.u32()?,
            descriptors: reader.u64()?,
            used: reader.u64()?,
            available: reader.u64()?,
            log: reader.u64()?,
        };
        reader.all(addresses)
    }
}

/// [`Request::SetMemTable`](super::Request::SetMemTable): a count, four bytes of nothing, the regions.
pub(super) mod memory_table {
    use super::super::{Code, MOST_REGIONS, MessageError};
    use super::{Reader, Region};

    pub fn encode(regions: &[Region]) -> Vec<u8> {
        let mut bytes = (regions.len() as u64).to_ne_bytes().to_vec();
        regions.iter().for_each(|region| bytes.extend(region.words()));
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Result<Vec<Region>, MessageError> {
        let wrong = MessageError::Size(Code::SetMemTable, bytes.len());
        let mut reader = Reader(bytes);
        let count = reader.u32().ok_or(wrong)?;
        reader.u32().ok_or(wrong)?;
        if count as usize > MOST_REGIONS {
            return Err(MessageError::Regions(Code::SetMemTable, count));
        }
        let regions = (0..count).map(|_| reader.region()).collect::<Option<_>>().ok_or(wrong)?;
        reader.all(regions).ok_or(wrong)
    }
}

/// [`Request::AddMemReg`](super::Request::AddMemReg) and its opposite: eight bytes of nothing, a region.
pub(super) mod region {
    use super::{Reader, Region};

    pub fn encode(region: &Region) -> Vec<u8> {
        [0; 8].into_iter().chain(region.words()).collect()
    }

    pub fn decode(bytes: &[u8]) -> Option<Region> {
        let mut reader = Reader(bytes);
        reader.u64()?;
        let region = reader.region()?;
        reader.all(region)
    }
}

impl Region {
    fn words(&self) -> impl Iterator<Item = u8> {
        [self.guest, self.size, self.user, self.offset].into_iter().flat_map(u64::to_ne_bytes)
    }
}

/// An index in the low byte of a `u64`, and a bit that says that no fd comes along.
pub(super) mod ring_fd {
    use super::{Reader, RingFd};

    const NONE: u64 = 1 << 8;

    pub fn encode(fd: RingFd) -> Vec<u8> {
        (u64::from(fd.index) | if fd.present { 0 } else { NONE }).to_ne_bytes().to_vec()
    }

    pub fn decode(bytes: &[u8]) -> Option<RingFd> {
        let mut reader = Reader(bytes);
        let value = reader.u64()?;
        reader.all(RingFd { index: value as u8, present: value & NONE == 0 })
    }
}

impl ConfigSpace {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = [self.offset, self.bytes.len() as u32, self.flags].map(u32::to_ne_bytes).concat();
        bytes.extend(&self.bytes);
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Option<ConfigSpace> {
        let mut reader = Reader(bytes);
        let (offset, size, flags) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let fits = size as usize == reader.0.len() && reader.0.len() <= MOST_CONFIG;
        fits.then(|| ConfigSpace { offset, flags, bytes: reader.0.to_vec() })
    }
}

impl Inflight {
    /// Four bytes of padding follow: the first implementations sent a C struct.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = [self.size, self.offset].map(u64::to_ne_bytes).concat();
        bytes.extend([self.queues, self.queue_size, 0, 0].into_iter().flat_map(u16::to_ne_bytes));
        bytes
    }

    /// With or without the padding.
    pub fn decode(bytes: &[u8]) -> Option<Inflight> {
        let mut reader = Reader(bytes);
        let inflight = Inflight {
            size: reader.u64()?,
            offset: reader.u64()?,
            queues: reader.u16()?,
            queue_size: reader.u16()?,
        };
        if !reader.0.is_empty() {
            reader.u32()?;
        }
        reader.all(inflight)
    }
}
