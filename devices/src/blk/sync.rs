//! Requests one after the other, by `preadv` and `pwritev` straight from and to guest memory.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::image::Image;
use super::request::{self, Answer, Op, Range, Request};
use crate::sys::bounce::Bounce;
use crate::sys::segments::Segments;
use crate::sys::{block, file};
use crate::virtio::chain::Chain;
use crate::virtio::queue::{ChainHandler, Served};
use crate::virtio::tally::{Shared, Tally};

/// Serves chains of one queue.
pub struct Disk {
    image: Arc<Image>,
    tally: Tally,
    shared: Shared,
    status: Option<Segments>,
}

impl Disk {
    pub fn new(image: Arc<Image>, shared: Shared) -> Disk {
        Disk { image, tally: Tally::default(), shared, status: None }
    }
}

impl ChainHandler for Disk {
    fn handle(&mut self, _: u16, chain: &mut Chain) -> Served {
        let mut status = self.status.take().unwrap_or_else(|| chain.writable.empty());
        let start = Instant::now();
        let request = request::parse(chain, &mut status, self.image.limits());
        let answer = match request {
            Ok(request) => execute(&self.image, &request, chain),
            Err(answer) => answer,
        };
        let served = finish(request.ok(), answer, &mut status, start.elapsed(), &mut self.tally);
        self.status = Some(status);
        served
    }

    fn end(&mut self) {
        self.shared.hand_over(&mut self.tally);
        self.status = None;
    }
}

/// Writes the status byte, counts, and says what to give back.
pub fn finish(
    request: Option<Request>,
    answer: Answer,
    status: &mut Segments,
    took: Duration,
    tally: &mut Tally,
) -> Served {
    let failed = answer != Answer::Ok;
    let (read, payload) = match request {
        Some(Request { op: Op::Read, len, .. }) if !failed => (len, len),
        Some(Request { op: Op::Write, len, .. }) if !failed => (0, len),
        _ => (0, 0),
    };
    if let Some(request) = request {
        tally.record(request.op as usize, payload, failed, took);
    }
    // Without room for a status the chain is given back as it came.
    let written = read as u32 + status.write(&[answer.code()]) as u32;
    if failed { Served::Failed { written } } else { Served::Done { written, payload } }
}

/// Does one request, whatever it is.
pub fn execute(image: &Image, request: &Request, chain: &mut Chain) -> Answer {
    let result = match request.op {
        Op::Read => read(image, request.offset, &mut chain.writable),
        Op::Write => write(image, request.offset, &mut chain.readable),
        Op::Flush => image.file().sync_data(),
        Op::Serial => {
            chain.writable.write(image.serial());
            Ok(())
        }
        Op::Discard | Op::WriteZeroes => {
            match request::ranges(request.op, &mut chain.readable, image.limits()) {
                Ok(ranges) => ranges.iter().try_for_each(|range| clear(image, request.op, range)),
                Err(answer) => return answer,
            }
        }
    };
    match result {
        Ok(()) => Answer::Ok,
        // A hint that the host can't take is not an error of the disk.
        Err(error) if request.op == Op::Discard && unsupported(&error) => Answer::Unsupported,
        Err(error) => {
            image.failed(request, &error);
            Answer::IoError
        }
    }
}

/// Bytes that are bounced at a time, where a request is not aligned as O_DIRECT needs it.
const BOUNCE: usize = 256 << 10;

/// Fills `data` from the image; an end of file inside it (the image has shrunk) is an error.
pub fn read(image: &Image, mut offset: u64, data: &mut Segments) -> io::Result<()> {
    let Some(align) = image.direct().filter(|&align| !data.aligned(align)) else {
        file::read_at(image.as_fd(), data, offset)?;
        return if data.is_empty() { Ok(()) } else { Err(image.ends()) };
    };
    let mut bounce = Bounce::new(data.len().min(BOUNCE), align)?;
    while !data.is_empty() {
        bounce.truncate(data.len());
        if bounce.read_at(image.as_fd(), offset)? < bounce.bytes().len() {
            return Err(image.ends());
        }
        offset += data.write(bounce.bytes()) as u64;
    }
    Ok(())
}

/// Writes `data` to the image.
pub fn write(image: &Image, mut offset: u64, data: &mut Segments) -> io::Result<()> {
    let Some(align) = image.direct().filter(|&align| !data.aligned(align)) else {
        file::write_at(image.as_fd(), data, offset)?;
        return if data.is_empty() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) };
    };
    let mut bounce = Bounce::new(data.len().min(BOUNCE), align)?;
    while !data.is_empty() {
        bounce.truncate(data.len());
        let len = data.read(bounce.bytes_mut());
        if bounce.write_at(image.as_fd(), offset)? < len {
            return Err(io::ErrorKind::WriteZero.into());
        }
        offset += len as u64;
    }
    Ok(())
}

fn clear(image: &Image, op: Op, range: &Range) -> io::Result<()> {
    if range.len == 0 {
        return Ok(());
    }
    let fd = image.as_fd();
    if op == Op::Discard {
        return match image.shape().device {
            true => block::discard(fd, range.offset, range.len),
            false => file::deallocate(fd, true, range.offset, range.len),
        };
    }
    // tmpfs has holes but no zeroed ranges, a device may have zeroes but no holes: either reads as zero.
    for punch in [range.unmap, !range.unmap] {
        match file::deallocate(fd, punch, range.offset, range.len) {
            Err(error) if unsupported(&error) => {}
            other => return other,
        }
    }
    zero(image, range)
}

/// Where the host knows neither: zeroes, 64 KiB at a time.
fn zero(image: &Image, range: &Range) -> io::Result<()> {
    let mut bounce = Bounce::new(64 << 10, image.direct().unwrap_or(512))?;
    let mut at = 0;
    while at < range.len {
        let here = (range.len - at).min(64 << 10);
        bounce.truncate(here as usize);
        if bounce.write_at(image.as_fd(), range.offset + at)? < here as usize {
            return Err(io::ErrorKind::WriteZero.into());
        }
        at += here;
    }
    Ok(())
}

fn unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS))
}
