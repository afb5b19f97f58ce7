//! Rings that lie in memory, and are served a few times.

use std::fs::OpenOptions;
use std::sync::Arc;

use super::{PAGE, disk, memory, resources, wire};
use crate::blk::sync;
use crate::net::OFFLOADS;
use crate::net::control::{Control, Pairs};
use crate::net::face::Face;
use crate::net::send::Send;
use crate::virtio::queue::Queue;
use crate::virtio::ring::Layout;
use crate::virtio::tally::{Shared, Tally};

/// A driver that has written `data` into memory, with a ring in its pages as the first bytes say, and
/// the requests that are found there: of a disk, a card's send queue or its control queue.
pub fn queues(data: &[u8]) {
    let Some((&[kind, log, base, flags], data)) = data.split_first_chunk() else { return };
    let memory = memory(data);
    let layout = Layout { size: 1 << (log & 7), descriptors: PAGE, available: 2 * PAGE, used: 3 * PAGE };
    let Some(resources) = resources(&memory, layout, base.into()) else { return };
    let Ok(mut queue) = Queue::new(resources, flags & 1 != 0, flags & 2 != 0) else { return };
    let mut tally = Tally::default();
    let null = OpenOptions::new().write(true).open("/dev/null").expect("open it");
    let (tap, _far) = wire();
    let card = Face::new([2, 0, 0, 0, 0, 1], true);
    for _ in 0..4 {
        let served = match kind & 3 {
            0 | 1 => {
                let mut disk =
                    sync::Disk::new(Arc::new(disk()), Shared::new(&crate::blk::request::Op::NAMES));
                queue.drain(&mut disk)
            }
            2 => queue.drain(&mut Send { tap: &null, tally: &mut tally, since: None }),
            _ => {
                let acked = if flags & 4 != 0 { u64::MAX } else { OFFLOADS };
                let pairs: &dyn Pairs = &tap;
                queue.drain(&mut Control { pairs, face: Some(&card), acked })
            }
        };
        if served.is_err() {
            return;
        }
    }
    queue.into_resources();
}
