//! What each device did, for the section `devices`.

use devices::virtio::counters::QueueCounts;
use devices::virtio::front::{DeviceCounts, OperationCounts};

use super::model::{Device, Operation, Queue};
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
        queues: counts.queues.iter().map(|one| queue(one, counts.data_path == "userspace")).collect(),
        operations: counts.operations.iter().map(operation).collect(),
    }
}

/// `ours`: a thread of this process has served it.
fn queue(counts: &QueueCounts, ours: bool) -> Queue {
    let seen = |count| ours.then_some(count);
    Queue {
        kicks: counts.kicks,
        kick_exits: counts.kick_exits,
        chains: seen(counts.chains),
        bytes: seen(counts.bytes),
        interrupts: seen(counts.interrupts),
        polls: seen(counts.polls_found + counts.polls_empty),
        polls_found: seen(counts.polls_found),
        errors: seen(counts.errors),
    }
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
