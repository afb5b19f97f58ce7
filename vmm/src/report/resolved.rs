//! Every knob as resolved, for the section `config`: a script can tell two machines apart by it.

use serde_json::{Value, json};

use devices::blk::Engine;
use devices::virtio::polling::BusyPoll;
use devices::virtio::rate::Rate;
use devices::virtio::transport::pci::Kicks;

use crate::config::console::Place;
use crate::config::disk::Medium;
use crate::config::net::Wire;
use crate::config::{Backing, Config, Disk, Idle, Net, Protocol, Pv, Transport};

/// Keys are the flags; units are in the names.
pub fn config(config: &Config) -> Value {
    let pins = config.pin.vcpus.iter().map(|(vcpu, cpu)| format!("{vcpu}@{cpu}"));
    let pins = pins.chain(config.pin.workers.iter().map(|(worker, cpu)| format!("{worker}@{cpu}")));
    json!({
        "kernel": config.boot.kernel,
        "initrd": config.boot.initrd,
        "cmdline": config.boot.cmdline,
        "modules": config.boot.modules,
        "boot": match config.boot.protocol {
            Protocol::Auto => "auto",
            Protocol::Linux => "linux",
            Protocol::Pvh => "pvh",
        },
        "workloads": config.boot.workloads,
        "vcpus": config.vcpus,
        "memory_bytes": config.memory.size,
        "pages": match config.memory.backing {
            Backing::Small => "4K",
            Backing::Thp => "thp",
            Backing::Huge2M => "2M",
            Backing::Huge1G => "1G",
        },
        "prefault": config.memory.prefault,
        "shared_memory": config.memory.shared,
        "pin": pins.collect::<Vec<_>>(),
        "cpu_limit_percent": config.cpu_limit,
        "halt_poll_ns": config.halt_poll_ns,
        "idle": match config.idle {
            Idle::Halt => "halt",
            Idle::GuestPoll => "guest-poll",
            Idle::Native => "native",
        },
        "pv": pv(&config.pv),
        "disks": config.disks.iter().map(disk).collect::<Vec<_>>(),
        "nets": config.nets.iter().map(net).collect::<Vec<_>>(),
        "transport": match config.virtio.transport {
            Transport::Pci => "pci",
            Transport::Mmio => "mmio",
        },
        "vhost": config.virtio.vhost,
        "event_idx": config.virtio.event_idx,
        "ioeventfd": config.virtio.ioeventfd,
        "kicks": match config.virtio.kicks {
            Kicks::Port => "port",
            Kicks::Memory => "memory",
        },
        "irqfd": config.virtio.irqfd,
        "busy_poll_us": u64::try_from(config.virtio.busy_poll.asked().as_micros()).unwrap_or(u64::MAX),
        "busy_poll_auto": config.virtio.busy_poll == BusyPoll::Adaptive,
        "follow_vcpu": config.virtio.follow_vcpu,
        "rng": config.rng,
        "vsock_cid": config.vsock.map(|vsock| vsock.cid),
        "console": match &config.console.place {
            Place::Stdio => "stdio".to_owned(),
            Place::File(path) => format!("file={}", path.display()),
            Place::None => "none".to_owned(),
        },
        "console_port": if config.console.is_virtio() { "virtio" } else { "serial" },
        "trace_exits": config.trace_exits,
        "sandbox": config.sandbox,
        "timeout_us": config.timeout.map(|limit| u64::try_from(limit.as_micros()).unwrap_or(u64::MAX)),
    })
}

fn disk(disk: &Disk) -> Value {
    match &disk.medium {
        Medium::Image(image, engine) => json!({
            "path": image.path,
            "read_only": image.read_only,
            "direct": image.direct,
            "engine": match engine {
                Engine::Sync => "sync",
                Engine::Uring => "uring",
            },
            "queues": disk.queues,
            "rate": rate(disk.rate),
        }),
        Medium::VhostUser(socket) => json!({ "vhost_user": socket, "queues": disk.queues }),
    }
}

fn net(net: &Net) -> Value {
    let (tap, fds, socket) = match &net.wire {
        Wire::Tap(name) => (Some(name), None, None),
        Wire::Fds(fds) => (None, Some(fds), None),
        Wire::VhostUser(socket) => (None, None, Some(socket)),
    };
    json!({ "tap": tap, "fds": fds, "vhost_user": socket, "mac": net.mac, "queues": net.queues, "offload": net.offload, "vhost": net.vhost, "rate": rate(net.rate) })
}

/// In a second; `null`: no limit.
fn rate(rate: Rate) -> Value {
    json!({ "bytes": rate.bytes, "operations": rate.operations })
}

/// `null`: KVM's own choice.
fn pv(pv: &Pv) -> Value {
    json!({
        "ipi": pv.ipi,
        "eoi": pv.eoi,
        "tlb": pv.tlb,
        "yield": pv.yield_,
        "steal": pv.steal,
        "unhalt": pv.unhalt,
    })
}
