//! What needs a disk.

use super::super::{Kind, Workload};
use super::{EVERYWHERE, KERNEL, MANY, MEMORY, key};

pub const BLK: Workload = Workload {
    name: "blk",
    about: "random or sequential requests to a disk: exits and system calls per request",
    places: EVERYWHERE,
    keys: &[
        key(
            "rw",
            Kind::Choice(&["randread", "randwrite", "read", "write", "mixed"]),
            "randread",
            "mixed: 70 % read",
        ),
        key("size", Kind::Size { min: 512, max: 1 << 20 }, "4k", "bytes of a request"),
        key("depth", Kind::Number { min: 1, max: 128 }, "1", "requests under way"),
        key("disk", Kind::Number { min: 0, max: 63 }, "0", "which disk of a guest's"),
        key("file", Kind::File, "-", "natively: the file or device; what it holds may be overwritten"),
        key("items", MANY, "100000", "requests"),
        key(
            "blk",
            Kind::Choice(&["irq", "poll"]),
            "irq",
            "sleeps for the next one, or polls (Linux: on a queue that virtio_blk.poll_queues= sets aside)",
        ),
    ],
};

pub const ROOT: Workload = Workload {
    name: "root",
    about: "every file of its root, a tar image, is read: from memory (--initrd) or a disk, through a page cache",
    places: KERNEL,
    keys: &[
        key("from", Kind::Choice(&["memory", "disk"]), "memory", "where the root is"),
        key("rounds", MANY, "1", "how often all is read"),
        key("size", MEMORY, "1M", "bytes of the cache before a disk"),
        key(
            "cache",
            Kind::Choice(&["lru", "tagged"]),
            "lru",
            "least recently used, or what was read once first",
        ),
        key("disk", Kind::Number { min: 0, max: 63 }, "0", "which disk"),
        key("blk", Kind::Choice(&["irq", "poll"]), "irq", "sleeps for the next request, or polls"),
    ],
};

pub const JOURNAL: Workload = Workload {
    name: "journal",
    about: "finds the last whole record on a disk, goes on writing from there, and says which ones are flushed",
    places: KERNEL,
    keys: &[
        key("size", Kind::Size { min: 512, max: 1 << 20 }, "4k", "bytes of a record"),
        key("depth", Kind::Number { min: 1, max: 128 }, "8", "records between two flushes, all under way"),
        key("disk", Kind::Number { min: 0, max: 63 }, "0", "which disk; what it holds is overwritten"),
        key("items", Kind::Number { min: 0, max: 1 << 40 }, "100000", "records to write; 0: only finds"),
        key("blk", Kind::Choice(&["irq", "poll"]), "irq", "sleeps for the next request, or polls"),
    ],
};
