//! What needs a network card.

use super::super::{Key, Kind, Workload};
use super::{EVERYWHERE, LINUX, MANY, PORT, key};

const RATE: Kind = Kind::Number { min: 0, max: 1 << 30 };

/// Keys of all that sends datagrams.
pub const ADDRESS: Key = key(
    "address",
    Kind::Peer,
    "10.0.0.2",
    "A.B.C.D of this side's card, in a guest; natively it is the kernel's own",
);
pub const PEER: Key = key("peer", Kind::Peer, "10.0.0.1:1300", "whom a sender sends to");
const OWN_PORT: Key = key("port", PORT, "1300", "port of this side, the first where each thread has one");
const NET: Key = key("net", Kind::Choice(&["irq", "poll"]), "irq", "sleeps for the next one, or polls");
const OVER: Key = key(
    "over",
    Kind::Choice(&["udp", "tcp"]),
    "udp",
    "datagrams, or a stream by the kernel's TCP, which Linux alone has",
);
const BATCH: Key = key("batch", Kind::Number { min: 1, max: 256 }, "1", "datagrams per kick");

pub const UDP: Workload = Workload {
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
};

pub const RR: Workload = Workload {
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
};

pub const PACKETS: Workload = Workload {
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
};

pub const BULK: Workload = Workload {
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
};

pub const HTTP: Workload = Workload {
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
};
