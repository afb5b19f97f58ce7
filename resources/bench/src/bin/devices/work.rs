//! What is measured: six loads on a disk and a network card, the same for every monitor.

/// A load; one operation is a request, a round trip, or 64 KiB of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    Random1,
    Random32,
    Sequential,
    RoundTrip,
    Out,
    In,
}

use Work::{In, Out, Random1, Random32, RoundTrip, Sequential};

/// What is aimed at: a rate as a multiple of the reference's, at the most so many exits each.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub ratio: f64,
    pub exits: Option<f64>,
}

impl Work {
    pub const ALL: [Work; 6] = [Random1, Random32, Sequential, RoundTrip, Out, In];

    /// As it is named on command lines.
    pub fn word(self) -> &'static str {
        match self {
            Random1 => "random-1",
            Random32 => "random-32",
            Sequential => "sequential",
            RoundTrip => "round-trip",
            Out => "out",
            In => "in",
        }
    }

    pub fn parse(word: &str) -> Option<Work> {
        Work::ALL.into_iter().find(|work| work.word() == word)
    }

    /// As the table names it.
    pub fn title(self) -> &'static str {
        match self {
            Random1 => "random 4 KiB read, depth 1",
            Random32 => "random 4 KiB read, depth 32",
            Sequential => "sequential 128 KiB read, depth 1",
            RoundTrip => "TCP round trip of 1 byte",
            Out => "TCP stream out, 64 KiB",
            In => "TCP stream in, 64 KiB",
        }
    }

    /// True if the disk does it.
    pub fn is_disk(self) -> bool {
        matches!(self, Random1 | Random32 | Sequential)
    }

    /// A disk's load, as `vmm` calls its workload.
    pub fn requests(self) -> Option<&'static str> {
        match self {
            Random1 => Some("blk,rw=randread,size=4096,depth=1"),
            Random32 => Some("blk,rw=randread,size=4096,depth=32"),
            Sequential => Some("blk,rw=read,size=131072,depth=1"),
            _ => None,
        }
    }

    /// What `vmm` is to reach with default settings, or with the best of its knobs.
    pub fn target(self, vhost: bool, best: bool) -> Option<Target> {
        let target = |ratio, exits| Some(Target { ratio, exits });
        match (self, vhost, best) {
            (Random1, false, false) => target(3.7, Some(2.36)),
            (Random1, false, true) => target(5.0, Some(1.4)),
            (Random32, false, false) => target(2.85, Some(0.10)),
            (Random32, false, true) => target(4.0, Some(0.05)),
            (Sequential, false, false) => target(2.0, Some(2.7)),
            (Sequential, false, true) => target(2.5, Some(1.7)),
            (RoundTrip, false, false) => target(1.85, Some(4.2)),
            (RoundTrip, false, true) => target(2.3, Some(2.5)),
            (RoundTrip, true, false) => target(2.4, Some(4.7)),
            (RoundTrip, true, true) => target(3.0, Some(2.5)),
            (Out, false, false) => target(1.65, Some(1.07)),
            (Out, false, true) => target(2.0, None),
            (Out, true, false) => target(1.95, Some(0.90)),
            (Out, true, true) => target(2.2, None),
            (In, false, false) => target(1.4, Some(1.39)),
            (In, false, true) => target(1.6, None),
            (In, true, false) => target(1.45, Some(1.7)),
            (In, true, true) => target(1.7, None),
            (Random1 | Random32 | Sequential, true, _) => None,
        }
    }
}

/// Names of loads, separated by commas.
pub fn list(words: &str) -> Option<Vec<Work>> {
    words.split(',').map(Work::parse).collect()
}
