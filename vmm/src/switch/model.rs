//! What a switch did, as data; units are in the names. Written down, it is the JSON report.

use devices::switch::counts::{Counts, SIZES};
use devices::switch::{Full, PortCounts, SwitchCounts};
use serde::Serialize;

use super::Plan;

/// The whole report.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub schema: &'static str,
    pub config: Config,
    pub wall_us: u64,
    pub workers: Vec<Worker>,
    pub ports: Vec<Port>,
}

/// Flags as resolved.
#[derive(Clone, Debug, Serialize)]
pub struct Config {
    pub cpus: Vec<u16>,
    pub busy_poll_us: u64,
    pub full: &'static str,
    pub age_s: u64,
}

/// A worker thread.
#[derive(Clone, Debug, Serialize)]
pub struct Worker {
    pub cpu: Option<u16>,
    /// Time in rounds that moved frames.
    pub busy_us: u64,
    /// Looks at all queues, those that found nothing, and how often it slept after one.
    pub rounds: u64,
    pub polls_empty: u64,
    /// Moments that it left to others on its CPU.
    pub naps: u64,
    pub sleeps: u64,
}

/// A port.
#[derive(Clone, Debug, Serialize)]
pub struct Port {
    pub socket: String,
    pub connected: bool,
    pub connections: u64,
    /// Feature bits that the last peer took.
    pub features: String,
    /// Ethernet addresses known behind it.
    pub addresses: usize,
    /// What its peers did wrong.
    pub errors: u64,
    pub last_error: Option<String>,
    pub queues: Vec<Queue>,
}

/// A queue, named as its peer would. `kicks`, `chains`, `bytes` and `interrupts` mean what they do in
/// the report of the machine behind it.
#[derive(Clone, Debug, Serialize)]
pub struct Queue {
    /// As virtio-net numbers them.
    pub index: usize,
    /// `send`: from the peer; `receive`: to it.
    pub name: &'static str,
    pub kicks: u64,
    pub chains: u64,
    pub packets: u64,
    pub bytes: u64,
    pub interrupts: u64,
    /// Batches of 1, 2 to 3, 4 to 7, 8 to 15, 16 to 31, 32 to 63, and 64 packets or more.
    pub batches: [u64; SIZES],
    /// Done in software for a receiver that takes neither.
    pub checksums: u64,
    pub segmented: u64,
    pub drops: Drops,
}

/// Packets that went nowhere.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Drops {
    pub no_buffer: u64,
    pub too_large: u64,
    pub unknown_port: u64,
    pub malformed: u64,
}

impl Report {
    /// Of a switch that ran by `plan`.
    pub fn new(plan: &Plan, counts: &SwitchCounts) -> Report {
        let workers = counts.workers.iter().enumerate().map(|(number, worker)| Worker {
            cpu: plan.cpus.get(number).copied(),
            busy_us: worker.busy.as_micros() as u64,
            rounds: worker.rounds,
            polls_empty: worker.empty_rounds,
            naps: worker.naps,
            sleeps: worker.sleeps,
        });
        Report {
            schema: "vmm.switch/1",
            config: Config {
                cpus: plan.cpus.clone(),
                busy_poll_us: plan.busy_poll.as_micros() as u64,
                full: match plan.full {
                    Full::Drop => "drop",
                    Full::Wait => "wait",
                },
                age_s: plan.age.as_secs(),
            },
            wall_us: counts.wall.as_micros() as u64,
            workers: workers.collect(),
            ports: counts.ports.iter().map(port).collect(),
        }
    }
}

fn port(counts: &PortCounts) -> Port {
    let queues = counts.pairs.iter().enumerate().flat_map(|(pair, counts)| {
        [queue(2 * pair, "receive", &counts.receive), queue(2 * pair + 1, "send", &counts.send)]
    });
    Port {
        socket: counts.name.clone(),
        connected: counts.connected,
        connections: counts.connections,
        features: format!("{:#x}", counts.features),
        addresses: counts.addresses,
        errors: counts.errors,
        last_error: counts.last_error.clone(),
        queues: queues.collect(),
    }
}

fn queue(index: usize, name: &'static str, counts: &Counts) -> Queue {
    let drops = counts.drops;
    Queue {
        index,
        name,
        kicks: counts.kicks,
        chains: counts.chains,
        packets: counts.packets,
        bytes: counts.bytes,
        interrupts: counts.interrupts,
        batches: counts.batches,
        checksums: counts.checksums,
        segmented: counts.segmented,
        drops: Drops {
            no_buffer: drops.no_buffer,
            too_large: drops.too_large,
            unknown_port: drops.unknown_port,
            malformed: drops.malformed,
        },
    }
}
