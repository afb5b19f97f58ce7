//! The table: every workload, every key, its default and its range.

use super::{Common, Key, Kind, Places, Workload};

const EVERYWHERE: Places = Places { native: true, linux: true, kernel: true };
const LINUX_GUEST: Places = Places { native: false, linux: true, kernel: false };
const GUESTS: Places = Places { native: false, linux: true, kernel: true };
const LINUX: Places = Places { native: true, linux: true, kernel: false };
const KERNEL: Places = Places { native: false, linux: false, kernel: true };

/// More than any run needs, less than what overflows when multiplied by a size.
const MANY: Kind = Kind::Number { min: 1, max: 1 << 40 };
const SPIN: Kind = Kind::Number { min: 0, max: 1 << 30 };
const MEMORY: Kind = Kind::Size { min: 64 << 10, max: 64 << 30 };
const ON_OFF: Kind = Kind::Choice(&["on", "off"]);
const PORT: Kind = Kind::Number { min: 1, max: 65535 };
const RATE: Kind = Kind::Number { min: 0, max: 1 << 30 };

const fn key(name: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Key {
    Key { name, kind, default, about }
}

/// Keys of all that sends datagrams.
const ADDRESS: Key = key(
    "address",
    Kind::Peer,
    "10.0.0.2",
    "A.B.C.D of this side's card, in a guest; natively it is the kernel's own",
);
const PEER: Key = key("peer", Kind::Peer, "10.0.0.1:1300", "whom a sender sends to");
const OWN_PORT: Key = key("port", PORT, "1300", "port of this side, the first where each thread has one");
const NET: Key = key("net", Kind::Choice(&["irq", "poll"]), "irq", "sleeps for the next one, or polls");
const OVER: Key = key(
    "over",
    Kind::Choice(&["udp", "tcp"]),
    "udp",
    "datagrams, or a stream by the kernel's TCP, which Linux alone has",
);
const BATCH: Key = key("batch", Kind::Number { min: 1, max: 256 }, "1", "datagrams per kick");

/// What a storm is made of.
pub const CHAOS: &[&str] = &["ports", "mmio", "pci", "msix", "rings", "resets", "interrupts", "cpus", "msrs"];

/// Whose memory has a page size, and who may use as many threads as is said.
const IN_MEMORY: &[&str] = &["hackbench", "stream", "gups", "linpack", "compress", "pagecache", "zeropages"];
const MEASURED: &[&str] = &[
    "null",
    "ipc",
    "hackbench",
    "stream",
    "gups",
    "linpack",
    "compress",
    "pagecache",
    "zeropages",
    "jitter",
    "udp",
    "rr",
    "packets",
    "bulk",
    "blk",
    "probe",
    "root",
    "journal",
    "chaos",
];

/// Keys of several workloads.
pub const COMMON: &[Common] = &[
    Common {
        key: key(
            "seconds",
            Kind::Number { min: 0, max: 86400 },
            "0",
            "ends it after so many seconds; 0: no limit",
        ),
        of: &[
            "null",
            "ipc",
            "hackbench",
            "stream",
            "gups",
            "linpack",
            "compress",
            "pagecache",
            "zeropages",
            "jitter",
            "udp",
            "rr",
            "packets",
            "http",
            "blk",
            "journal",
            "chaos",
            "idle",
        ],
    },
    Common {
        key: key("threads", Kind::Number { min: 0, max: 64 }, "0", "threads; 0: one, or one for each CPU"),
        of: &["stream", "gups", "linpack", "compress", "packets", "bulk"],
    },
    Common {
        key: key("ring", Kind::Choice(&["0", "3"]), "3", "built-in kernel: the privilege it runs at"),
        of: &[
            "null",
            "ipc",
            "hackbench",
            "stream",
            "gups",
            "linpack",
            "compress",
            "pagecache",
            "zeropages",
            "jitter",
            "udp",
            "rr",
            "packets",
            "bulk",
            "blk",
            "probe",
            "root",
            "journal",
            "fault",
            "chaos",
        ],
    },
    Common {
        key: key("idle", Kind::Idle, "halt", "built-in kernel: what a CPU without work does"),
        of: MEASURED,
    },
    Common {
        key: key("pages", Kind::Choice(&["4k", "2m"]), "2m", "page size of the workload's memory"),
        of: IN_MEMORY,
    },
];

/// All workloads, in the order in which help lists them.
pub const ALL: &[Workload] = &[
    Workload {
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
    },
    Workload {
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
    },
    Workload {
        name: "hackbench",
        about: "groups of 20 senders and 20 receivers pass 100-byte messages: scheduler and wake-ups",
        places: EVERYWHERE,
        keys: &[
            key("groups", Kind::Number { min: 1, max: 100 }, "10", "groups of 40 threads"),
            key("loops", MANY, "100", "messages from each sender to each receiver"),
        ],
    },
    Workload {
        name: "stream",
        about: "copy, scale, add and triad over three arrays: memory bandwidth",
        places: EVERYWHERE,
        keys: &[
            key(
                "size",
                MEMORY,
                "128M",
                "bytes of the three arrays together, at least 4 times the last cache",
            ),
            key("rounds", MANY, "10", "the best of so many"),
        ],
    },
    Workload {
        name: "gups",
        about: "random 64-bit updates of a table: address translation",
        places: EVERYWHERE,
        keys: &[
            key("size", MEMORY, "128M", "bytes of the table, rounded down to a power of two"),
            key("items", MANY, "10000000", "updates"),
        ],
    },
    Workload {
        name: "linpack",
        about: "blocked double-precision matrix product: arithmetic, and who shares a core with whom",
        places: EVERYWHERE,
        keys: &[
            key("size", Kind::Number { min: 64, max: 16384 }, "512", "rows and columns, rounded up to 256"),
            key("rounds", MANY, "3", "products"),
        ],
    },
    Workload {
        name: "compress",
        about: "match search of a dictionary compressor over hash chains: caches and address translation",
        places: EVERYWHERE,
        keys: &[key("size", MEMORY, "32M", "bytes scanned")],
    },
    Workload {
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
    },
    Workload {
        name: "zeropages",
        about: "takes zeroed pages with and without a pool that is cleared in idle time",
        places: EVERYWHERE,
        keys: &[
            key("items", MANY, "100000", "pages taken"),
            key("spin", SPIN, "2000", "additions per page, the application's own work"),
            key("zeropool", ON_OFF, "on", "whether an idle thread clears pages ahead"),
        ],
    },
    Workload {
        name: "jitter",
        about: "a thread wakes periodically: how late",
        places: EVERYWHERE,
        keys: &[
            key(
                "period",
                Kind::Number { min: 10, max: 1_000_000 },
                "1000",
                "microseconds between two wake-ups",
            ),
            key("items", MANY, "1000", "wake-ups"),
            key(
                "priority",
                Kind::Number { min: 0, max: 99 },
                "0",
                "Linux: above everyone without one (SCHED_FIFO); 0: none",
            ),
        ],
    },
    Workload {
        name: "udp",
        about: "datagrams sent, reflected, counted: copies, kicks and interrupts per packet",
        places: EVERYWHERE,
        keys: &[
            key("role", Kind::Choice(&["send", "reflect", "sink"]), "reflect", "what this side does"),
            PEER,
            ADDRESS,
            OWN_PORT,
            key("size", Kind::Number { min: 18, max: 1472 }, "50", "bytes of payload"),
            key("rate", RATE, "0", "datagrams per second, evenly paced; 0: flat out"),
            key("items", MANY, "1000000", "datagrams"),
            NET,
            BATCH,
        ],
    },
    Workload {
        name: "rr",
        about: "one datagram there and one back: exits and wake-ups per request",
        places: EVERYWHERE,
        keys: &[
            key("role", Kind::Choice(&["send", "reflect"]), "reflect", "who asks, who answers"),
            PEER,
            ADDRESS,
            OWN_PORT,
            key("size", Kind::Number { min: 1, max: 1472 }, "1", "bytes of payload"),
            key("items", MANY, "100000", "requests"),
            OVER,
            NET,
        ],
    },
    Workload {
        name: "packets",
        about: "small messages by `threads` threads, one under way each: latency times threads",
        places: EVERYWHERE,
        keys: &[
            key("role", Kind::Choice(&["send", "reflect"]), "reflect", "who asks, who answers"),
            PEER,
            ADDRESS,
            OWN_PORT,
            key("size", Kind::Number { min: 1, max: 1472 }, "50", "bytes of payload"),
            key("items", MANY, "100000", "messages of each thread"),
            NET,
        ],
    },
    Workload {
        name: "bulk",
        about: "messages one way that all arrive, numbered and acknowledged: copies, kicks, bandwidth",
        places: EVERYWHERE,
        keys: &[
            key("role", Kind::Choice(&["send", "sink"]), "sink", "what this side does"),
            PEER,
            ADDRESS,
            OWN_PORT,
            key("size", Kind::Size { min: 1, max: 1 << 20 }, "16k", "bytes of a message"),
            key("items", MANY, "10000", "messages of each thread"),
            OVER,
            NET,
            BATCH,
        ],
    },
    Workload {
        name: "http",
        about: "a static page fetched over and over, by a connection each time: accepts and small packets",
        places: LINUX,
        keys: &[
            key("role", Kind::Choice(&["get", "serve"]), "serve", "who fetches, who has the page"),
            PEER,
            ADDRESS,
            OWN_PORT,
            key("size", Kind::Number { min: 1, max: 16 << 20 }, "41288", "bytes of the page"),
            key("items", MANY, "100000", "requests"),
            key("concurrency", Kind::Number { min: 1, max: 1000 }, "1", "requests at a time"),
        ],
    },
    Workload {
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
    },
    Workload {
        name: "tool",
        about: "a program from a disk, run in that disk's root, beside which the others can be held: its figure is what it prints",
        places: LINUX,
        keys: &[
            key("command", Kind::Words, "true", "what its shell runs; natively, this host's"),
            PEER,
            ADDRESS,
            key("disk", Kind::Number { min: 0, max: 25 }, "0", "which disk of a guest's"),
            key("items", MANY, "1", "operations that counts are divided by: as many as the program makes"),
        ],
    },
    Workload {
        name: "probe",
        about: "one mechanism, many times: what it costs here; Linux has cpuid, syscall, timer and touch",
        places: EVERYWHERE,
        keys: &[
            key(
                "what",
                Kind::Choice(&[
                    "cpuid", "pio", "mmio", "kick", "gate", "syscall", "hlt", "ipi-self", "ipi-spin",
                    "ipi-halt", "timer", "touch", "steps",
                ]),
                "pio",
                "the mechanism",
            ),
            key("items", MANY, "10000", "times"),
        ],
    },
    Workload {
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
    },
    Workload {
        name: "journal",
        about: "finds the last whole record on a disk, goes on writing from there, and says which ones are flushed",
        places: KERNEL,
        keys: &[
            key("size", Kind::Size { min: 512, max: 1 << 20 }, "4k", "bytes of a record"),
            key(
                "depth",
                Kind::Number { min: 1, max: 128 },
                "8",
                "records between two flushes, all under way",
            ),
            key("disk", Kind::Number { min: 0, max: 63 }, "0", "which disk; what it holds is overwritten"),
            key("items", Kind::Number { min: 0, max: 1 << 40 }, "100000", "records to write; 0: only finds"),
            key("blk", Kind::Choice(&["irq", "poll"]), "irq", "sleeps for the next request, or polls"),
        ],
    },
    Workload {
        name: "fault",
        about: "an exception, to see that it is reported and that the next workload goes on",
        places: KERNEL,
        keys: &[key("kind", Kind::Choice(&["ud", "pf", "gp", "de"]), "ud", "the exception")],
    },
    Workload {
        name: "chaos",
        about: "storms of all that a hostile guest can do: the machine must stand, and still end on command",
        places: KERNEL,
        keys: &[
            key(
                "seed",
                Kind::Number { min: 0, max: u64::MAX },
                "1",
                "the same one storms the same way; 0: another one each time, which the result names",
            ),
            key("what", Kind::Some(CHAOS), "all", "of what; cpus starts and stops the last CPU"),
            key("items", MANY, "100000", "deeds, all CPUs together"),
        ],
    },
    Workload {
        name: "exit",
        about: "ends the guest with this status",
        places: GUESTS,
        keys: &[key("status", Kind::Number { min: 0, max: 63 }, "0", "exit status")],
    },
    Workload { name: "ready", about: "ends as soon as the guest is up", places: GUESTS, keys: &[] },
    Workload {
        name: "idle",
        about: "nothing, for `seconds`: what an idle guest costs its host",
        places: LINUX_GUEST,
        keys: &[],
    },
    Workload {
        name: "agent",
        about: "says that it takes calls (phase agent), gives back what its first caller sends; needs --vsock",
        places: LINUX_GUEST,
        keys: &[key("port", PORT, "1024", "where it takes calls")],
    },
    Workload { name: "shell", about: "a shell on the console", places: LINUX_GUEST, keys: &[] },
    Workload { name: "poweroff", about: "ends the guest by ACPI power off", places: LINUX_GUEST, keys: &[] },
    Workload { name: "reboot", about: "ends the guest by a reboot", places: LINUX_GUEST, keys: &[] },
    Workload { name: "panic", about: "ends the guest by a kernel panic", places: LINUX_GUEST, keys: &[] },
    Workload {
        name: "triple-fault",
        about: "ends the guest by a triple fault",
        places: LINUX_GUEST,
        keys: &[],
    },
];
