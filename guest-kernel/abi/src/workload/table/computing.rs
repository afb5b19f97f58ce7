//! What needs CPUs and memory alone.

use super::super::{Kind, Workload};
use super::{EVERYWHERE, MANY, MEMORY, ON_OFF, SPIN, key};

pub const NULL: Workload = Workload {
    name: "null",
    about: "40-byte writes to and reads from the null file: the price of a ring crossing",
    places: EVERYWHERE,
    keys: &[
        key("calls", MANY, "1000000", "pairs of one write and one read"),
        key(
            "gate",
            Kind::Choice(&["call", "table", "syscall"]),
            "syscall",
            "how the application enters the kernel; Linux has only syscall",
        ),
    ],
};

pub const IPC: Workload = Workload {
    name: "ipc",
    about: "two threads hand items over by semaphores: halts and wake-up interrupts per item",
    places: EVERYWHERE,
    keys: &[
        key("items", MANY, "800000", "items handed over"),
        key("spin", SPIN, "2000", "additions per side and item"),
        key(
            "hogs",
            Kind::Number { min: 0, max: 64 },
            "0",
            "Linux: threads of the lowest priority that keep CPUs from halting",
        ),
    ],
};

pub const HACKBENCH: Workload = Workload {
    name: "hackbench",
    about: "groups of 20 senders and 20 receivers pass 100-byte messages: scheduler and wake-ups",
    places: EVERYWHERE,
    keys: &[
        key("groups", Kind::Number { min: 1, max: 100 }, "10", "groups of 40 threads"),
        key("loops", MANY, "100", "messages from each sender to each receiver"),
    ],
};

pub const STREAM: Workload = Workload {
    name: "stream",
    about: "copy, scale, add and triad over three arrays: memory bandwidth",
    places: EVERYWHERE,
    keys: &[
        key("size", MEMORY, "128M", "bytes of the three arrays together, at least 4 times the last cache"),
        key("rounds", MANY, "10", "the best of so many"),
    ],
};

pub const GUPS: Workload = Workload {
    name: "gups",
    about: "random 64-bit updates of a table: address translation",
    places: EVERYWHERE,
    keys: &[
        key("size", MEMORY, "128M", "bytes of the table, rounded down to a power of two"),
        key("items", MANY, "10000000", "updates"),
    ],
};

pub const LINPACK: Workload = Workload {
    name: "linpack",
    about: "blocked double-precision matrix product: arithmetic, and who shares a core with whom",
    places: EVERYWHERE,
    keys: &[
        key("size", Kind::Number { min: 64, max: 16384 }, "512", "rows and columns, rounded up to 256"),
        key("rounds", MANY, "3", "products"),
    ],
};

pub const COMPRESS: Workload = Workload {
    name: "compress",
    about: "match search of a dictionary compressor over hash chains: caches and address translation",
    places: EVERYWHERE,
    keys: &[key("size", MEMORY, "32M", "bytes scanned")],
};

pub const PAGECACHE: Workload = Workload {
    name: "pagecache",
    about: "a scan passes through a cache that holds temporary files: what an eviction rule keeps",
    places: EVERYWHERE,
    keys: &[
        key("size", MEMORY, "32M", "bytes of the cache"),
        key(
            "cache",
            Kind::Choice(&["lru", "tagged"]),
            "lru",
            "least recently used, or the scan's own pages first",
        ),
    ],
};

pub const ZEROPAGES: Workload = Workload {
    name: "zeropages",
    about: "takes zeroed pages with and without a pool that is cleared in idle time",
    places: EVERYWHERE,
    keys: &[
        key("items", MANY, "100000", "pages taken"),
        key("spin", SPIN, "2000", "additions per page, the application's own work"),
        key("zeropool", ON_OFF, "on", "whether an idle thread clears pages ahead"),
    ],
};

pub const JITTER: Workload = Workload {
    name: "jitter",
    about: "a thread wakes periodically: how late",
    places: EVERYWHERE,
    keys: &[
        key("period", Kind::Number { min: 10, max: 1_000_000 }, "1000", "microseconds between two wake-ups"),
        key("items", MANY, "1000", "wake-ups"),
        key(
            "priority",
            Kind::Number { min: 0, max: 99 },
            "0",
            "Linux: above everyone without one (SCHED_FIFO); 0: none",
        ),
    ],
};
