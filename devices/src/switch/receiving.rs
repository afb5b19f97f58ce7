//! A receiver's buffers for a run of frames: taken together, filled one after another, the rest left to its
//! ring. A frame takes several where one is too short and they may be merged.

use super::frame::{HEADER, Header};
use super::port::Live;
use super::ring::Taken;
use crate::sys::peer::{Cursor, Pieces};
use crate::virtio::ring::RingError;

/// So much of each buffer is claimed before any is filled: a batch of it is still in the nearest cache when
/// its turn comes.
const CLAIMED: usize = 256;

/// The receiver's buffers for a run.
#[derive(Default)]
pub struct Receiving {
    pub pieces: Pieces,
    buffers: Vec<Taken>,
    /// Buffers that are filled already.
    used: usize,
}

/// Why a frame has no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPlace {
    NoBuffer,
    TooLarge,
    Broken(RingError),
}

impl From<RingError> for NoPlace {
    fn from(error: RingError) -> NoPlace {
        NoPlace::Broken(error)
    }
}

impl Receiving {
    /// Takes a buffer for each of these lengths, if there are as many.
    pub fn begin(
        &mut self,
        live: &mut Live,
        lens: impl ExactSizeIterator<Item = u32>,
    ) -> Result<(), RingError> {
        self.pieces.reset(&live.memory);
        self.buffers.clear();
        self.used = 0;
        live.ring.take(lens.len(), &mut self.pieces, &mut self.buffers).map(drop)?;
        for (buffer, len) in self.buffers.iter().zip(lens) {
            self.pieces.claim(buffer.first, live.header, (len as usize).min(CLAIMED));
        }
        Ok(())
    }

    /// Puts a frame into the next buffers: `prefix`, then `len` bytes less the prefix from `start`.
    /// Returns how many frames that makes: 1.
    #[inline]
    pub fn place(
        &mut self,
        live: &mut Live,
        header: &Header,
        prefix: &[u8],
        sent: &Pieces,
        start: Cursor,
        len: u32,
    ) -> Result<u64, NoPlace> {
        let need = len + live.header as u32;
        let count = self.room(live, need)?;
        let buffers = &self.buffers[self.used..self.used + count];
        let mut at = buffers[0].start();
        let header = header.encode(count as u16);
        match live.header {
            HEADER => self.pieces.put_header::<HEADER>(&mut at, header),
            _ => self.pieces.put_header::<{ HEADER - 2 }>(&mut at, header),
        }
        self.pieces.write(&mut at, prefix);
        sent.copy_to(&mut { start }, &self.pieces, &mut at, len as usize - prefix.len());
        let mut rest = need;
        for buffer in buffers {
            let here = buffer.len.min(rest);
            live.ring.fill(buffer, here);
            rest -= here;
        }
        self.used += count;
        Ok(1)
    }

    /// How many of the next buffers hold `need` bytes.
    #[inline]
    fn room(&mut self, live: &mut Live, need: u32) -> Result<usize, NoPlace> {
        match self.buffers.get(self.used) {
            Some(buffer) if buffer.len >= need => Ok(1),
            _ => self.more_room(live, need),
        }
    }

    #[cold]
    fn more_room(&mut self, live: &mut Live, need: u32) -> Result<usize, NoPlace> {
        let (mut count, mut room) = (0, 0_u64);
        while room < need.into() {
            if self.used + count == self.buffers.len()
                && live.ring.take(1, &mut self.pieces, &mut self.buffers)? == 0
            {
                let all = count == usize::from(live.ring.size());
                return Err(if all { NoPlace::TooLarge } else { NoPlace::NoBuffer });
            }
            room += u64::from(self.buffers[self.used + count].len);
            count += 1;
            if !live.mergeable && room < need.into() {
                return Err(NoPlace::TooLarge);
            }
        }
        Ok(count)
    }

    /// The last frame placed: its buffers' bytes from behind the virtio header on.
    pub fn placed(&self, first: usize, header: usize) -> (&Pieces, Cursor) {
        let mut at = self.buffers[first].start();
        self.pieces.skip(&mut at, header);
        (&self.pieces, at)
    }

    /// Buffers that are filled so far.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Leaves what is not filled to its ring; returns how many are.
    pub fn finish(&mut self, live: &mut Live) -> usize {
        let left = &self.buffers[self.used..];
        live.had = left.iter().map(|buffer| buffer.span).sum();
        live.ring.untake(left);
        self.used
    }
}
