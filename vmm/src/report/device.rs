//! What each device did, for the section `devices`.

use devices::virtio::backend::DataPath;
use devices::virtio::counters::{QueueCounts, ThreadCounts};
use devices::virtio::front::{DeviceCounts, OperationCounts};

use super::model::{Device, Operation, Queue, Thread};
use crate::config::{Config, Transport};

/// A device's counts, and how the machine has attached it.
pub fn device(counts: &DeviceCounts, config: &Config) -> Device {
    Device {
        name: counts.name.clone(),
        kind: counts.kind,
        data_path: counts.data_path,
        transport: match config.virtio.transport {
            Transport::Pci => "pci",
            Transport::Mmio => "mmio",
        },
        interrupts_by: if config.virtio.irqfd { "irqfd" } else { "ioctl" },
        faults: counts.faults,
        queues: counts.queues.iter().map(|one| queue(one, counts.data_path)).collect(),
        threads: counts.threads.iter().map(thread).collect(),
        operations: counts.operations.iter().map(operation).collect(),
    }
}

fn queue(counts: &QueueCounts, data_path: &str) -> Queue {
    let seen = |count| counts.here.then_some(count);
    Queue {
        // The kernel leaves the fd's count alone; another process reads it.
        kicks: (counts.here || data_path != DataPath::VhostUser.label()).then_some(counts.kicks),
        kicks_seen: if counts.here { counts.kicks } else { counts.kick_exits },
        kick_exits: counts.kick_exits,
        chains: seen(counts.chains),
        bytes: seen(counts.bytes),
        interrupts: seen(counts.interrupts),
        polls: seen(counts.polls_found + counts.polls_empty),
        polls_found: seen(counts.polls_found),
        errors: seen(counts.errors),
        throttled: seen(counts.throttled),
        throttled_us: seen(counts.throttled_ns / 1000),
        follows: seen(counts.follows),
        chains_beside: seen(counts.beside),
        looked_us: (data_path == DataPath::VhostKernel.label()).then_some(counts.looked_ns / 1000),
    }
}

fn thread(counts: &ThreadCounts) -> Thread {
    Thread { name: counts.name.clone(), cpu_us: counts.cpu_ns.map(|ns| ns / 1000) }
}

fn operation(counts: &OperationCounts) -> Operation {
    Operation {
        name: counts.name,
        count: counts.count,
        bytes: counts.bytes,
        errors: counts.errors,
        ns_p50: counts.ns_p50,
        ns_p99: counts.ns_p99,
        ns_max: counts.ns_max,
    }
}
