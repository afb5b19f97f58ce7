//! The table: every workload, every key, its default and its range.

mod computing;
mod disk;
mod machine;
mod network;

pub use machine::STORMS;

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

const fn key(name: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Key {
    Key { name, kind, default, about }
}

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
    computing::NULL,
    computing::IPC,
    computing::HACKBENCH,
    computing::STREAM,
    computing::GUPS,
    computing::LINPACK,
    computing::COMPRESS,
    computing::PAGECACHE,
    computing::ZEROPAGES,
    computing::JITTER,
    network::UDP,
    network::RR,
    network::PACKETS,
    network::BULK,
    network::HTTP,
    disk::BLK,
    machine::TOOL,
    machine::PROBE,
    disk::ROOT,
    disk::JOURNAL,
    machine::FAULT,
    machine::CHAOS,
    machine::EXIT,
    machine::READY,
    machine::IDLE,
    machine::AGENT,
    machine::SHELL,
    machine::POWEROFF,
    machine::REBOOT,
    machine::PANIC,
    machine::TRIPLE_FAULT,
];
