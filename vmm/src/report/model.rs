//! The report as data: `vmm.report/1`. Units are in the names; `null` is what this host does not
//! count. Text, JSON and comparison are readers of this and of nothing else.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::host::Host;

/// The name of this layout. A key may be added under it; none is removed or changes its meaning.
pub const SCHEMA: &str = "vmm.report/1";

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub schema: &'static str,
    pub host: Host,
    /// Every knob as resolved.
    pub config: Value,
    pub guest: Guest,
    /// What took most time, at most five.
    pub hot: Vec<Hot>,
    pub waits: Waits,
    pub time: Time,
    pub exits: Exits,
    /// `null`: not asked for.
    pub trace: Option<Trace>,
    pub halts: Halts,
    pub memory: Memory,
    pub sandbox: Sandbox,
    pub vcpus: Vec<Vcpu>,
    pub devices: Vec<Device>,
    pub knobs: Vec<Knob>,
    pub phases: Vec<Phase>,
    pub records: Vec<Record>,
    /// What the guest wrote to the record port beyond what is kept.
    pub records_dropped_bytes: u64,
}

/// Why the machine ended.
#[derive(Clone, Debug, Serialize)]
pub struct Guest {
    /// `shutdown`, `reset`, `exit`, `panic`, `triple-fault`, `timeout`, `signal`, `internal-error`,
    /// `failed-entry`.
    pub end: &'static str,
    /// The guest's own status, the signal, KVM's suberror or the processor's reason.
    pub code: Option<u64>,
    /// The exit status of this program.
    pub status: u8,
    /// In one line.
    pub why: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct Time {
    /// From exec, by [`Birth`](super::birth::Birth), to just before the first `KVM_RUN`.
    pub exec_to_first_entry_us: u64,
    /// From exec to the guest's mark `ready`; `null` if it never came.
    pub exec_to_ready_us: Option<u64>,
    /// From exec until the last vCPU had stopped.
    pub wall_us: u64,
    /// CPU time of each vCPU thread, in the guest or not.
    pub vcpu_cpu_us: Vec<u64>,
    /// CPU time of the rest of the process.
    pub vmm_cpu_us: u64,
    /// Periods of 100 ms in which it wanted to run, those in which it had used up its `--cpu-limit`, and how long
    /// its threads then waited, together; `null`: it has none.
    pub cpu_periods: Option<u64>,
    pub cpu_throttled: Option<u64>,
    pub cpu_throttled_us: Option<u64>,
}

/// Exits of all vCPUs, in one interval.
#[derive(Clone, Debug, Serialize)]
pub struct Exits {
    /// KVM's own count.
    pub total: Option<u64>,
    /// Returns of `KVM_RUN`: each is part of an exit.
    pub userspace: Vec<UserspaceExit>,
    pub kernel: Kernel,
    /// Disjoint parts of `total`.
    pub explained: Vec<Explained>,
    /// `total` less `explained`; below 0 if KVM has counted an exit twice.
    pub unexplained: Option<i64>,
    pub hardware: Option<Vec<HardwareExit>>,
    pub ipi: Option<Ipi>,
}

/// Returns of `KVM_RUN` with one reason and target. Times are from the return until the next entry,
/// in nanoseconds; the quantiles are within 1/16.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UserspaceExit {
    pub vcpu: u8,
    pub reason: String,
    /// Device and register, or the bare address.
    pub target: Option<String>,
    pub count: u64,
    pub ns_total: u64,
    pub ns_p50: u64,
    pub ns_p99: u64,
    pub ns_max: u64,
}

/// KVM's counters by the report's names, in a fixed order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel(pub Vec<(&'static str, Option<u64>)>);

impl Kernel {
    pub fn get(&self, name: &str) -> Option<u64> {
        self.0.iter().find(|(known, _)| *known == name).and_then(|(_, value)| *value)
    }
}

impl Serialize for Kernel {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// A part of all exits that overlaps no other part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explained {
    pub reason: &'static str,
    pub count: u64,
    pub source: Source,
}

/// Who counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    Kvm,
    /// The vCPU threads: where KVM does not count it, and every such exit returns to userspace.
    Userspace,
}

/// Exits by the processor's reason, from tracepoints. Times are from exit to entry, without sleep, in
/// nanoseconds; the quantiles are within 1/16.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HardwareExit {
    pub vcpu: u8,
    pub reason: String,
    /// Device and register, the bare address, or the model-specific register.
    pub target: Option<String>,
    pub count: u64,
    pub ns_total: u64,
    pub ns_p50: u64,
    pub ns_p99: u64,
    pub ns_max: u64,
    /// Of `ns_total` of all rows, 0 to 1.
    pub share: Option<f64>,
    /// Of halts: asleep, or polling for work, before the next entry.
    pub idle_ns: Option<u64>,
}

/// Exits of one reason and target that took much time, all vCPUs together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Hot {
    /// `hardware`: of all exits, without sleep; `userspace`: of those that returned to this process.
    pub by: &'static str,
    pub reason: String,
    pub target: Option<String>,
    pub count: u64,
    pub ns_total: u64,
    /// Of the time of all such exits, 0 to 1.
    pub share: f64,
    pub advice: Option<&'static str>,
}

/// What vCPUs waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Waits {
    /// From the first entry to the end, once for each vCPU.
    pub vcpu_ns: u64,
    pub asleep_ns: Option<u64>,
    pub polled_ns: Option<u64>,
    /// Ready to run, while another thread had the CPU.
    pub no_cpu_ns: Option<u64>,
    /// The operation of each device that took longest in all.
    pub devices: Vec<DeviceWait>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceWait {
    pub device: String,
    pub operation: &'static str,
    pub count: u64,
    pub ns_p50: u64,
}

/// How exits were traced, and whether what was seen is all there was.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Trace {
    /// `bpf`; `null` where nothing was.
    pub by: Option<&'static str>,
    /// Why `exits.hardware` is `null`.
    pub why: Option<String>,
    pub sources: Vec<TraceSource>,
    /// Of all rows in `exits.hardware`.
    pub exits: Option<u64>,
    /// KVM's own count of exits less that.
    pub lost: Option<i64>,
    /// Tracepoints passed, by any machine on this host, while another program ran on the same CPU.
    pub missed: Option<u64>,
    /// What tracepoints beside exits have seen, where exits are silent.
    pub events: Vec<TracedEvent>,
}

/// A tracepoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TraceSource {
    pub event: &'static str,
    /// How often vCPU threads have passed it.
    pub fired: u64,
    /// Whether it fires on this host at all, as far as is known.
    pub counts: Option<bool>,
}

/// Accesses of one kind that were seen without their exits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TracedEvent {
    pub vcpu: u8,
    pub reason: String,
    pub target: Option<String>,
    pub count: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct Ipi {
    pub count: u64,
    pub source: &'static str,
}

/// What idle vCPUs did. Time asleep is idle time, never the cost of an exit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Halts {
    pub exits: Option<u64>,
    pub poll_attempted: Option<u64>,
    pub poll_successful: Option<u64>,
    /// Polling before sleep, with and without success.
    pub poll_ns: Option<u64>,
    /// Asleep in the host.
    pub wait_ns: Option<u64>,
    pub wakeups: Option<u64>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Memory {
    pub asked: String,
    pub got_bytes: Option<u64>,
    pub coverage: Option<f64>,
    /// Pages mapped by KVM when the guest had ended, by their size.
    pub pages_4k: Option<u64>,
    pub pages_2m: Option<u64>,
    pub pages_1g: Option<u64>,
    pub vmm_private_bytes: Option<u64>,
    pub vmm_resident_bytes: Option<u64>,
}

/// What the monitor could still do while the guest ran.
#[derive(Clone, Debug, Serialize)]
pub struct Sandbox {
    /// Whether each thread had a filter of its system calls.
    pub seccomp: bool,
    /// The version of Landlock that kept files out of reach; `null`: nothing did.
    pub landlock_version: Option<u32>,
}

/// One vCPU: KVM's counters, and how its thread fared.
#[derive(Clone, Debug, Serialize)]
pub struct Vcpu {
    pub vcpu: u8,
    pub exits: Option<u64>,
    pub userspace_exits: u64,
    /// Host CPUs that its thread may use.
    pub cpus: Vec<usize>,
    /// Moves of its thread from CPU to CPU; of a pinned one, since it was pinned.
    pub migrations: Option<u64>,
    /// How often another thread took the CPU from it.
    pub preempted: u64,
    /// Time that its thread was ready to run and had no CPU.
    pub waited_us: Option<u64>,
    /// How it stood when the machine was ended from outside, by a signal, its time or its console; else `null`.
    pub stood: Option<Stood>,
    pub kernel: Kernel,
    pub halts: Halts,
}

/// Where a vCPU was, and which interrupts were on their way to it.
#[derive(Clone, Debug, Serialize)]
pub struct Stood {
    /// `running`, `halted`, `waits for INIT`, `waits for SIPI`, `started`; `null`: KVM knows another.
    pub state: Option<&'static str>,
    /// `real`, `protected`, `long`.
    pub mode: &'static str,
    /// Privilege level.
    pub ring: u8,
    /// RFLAGS.IF.
    pub takes_interrupts: bool,
    /// Registers in hexadecimal: numbers of JSON end at 2^53.
    pub rip: String,
    pub rsp: String,
    pub cr2: String,
    pub cr3: String,
    /// Vectors that the local APIC has for it, and those that it has taken and not acknowledged.
    pub requested: Vec<u8>,
    pub in_service: Vec<u8>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Device {
    pub name: String,
    /// `blk`, `net`.
    pub kind: &'static str,
    /// `userspace`, `vhost-kernel`, `vhost-user`.
    pub data_path: &'static str,
    /// `pci`, `mmio`.
    pub transport: &'static str,
    /// `irqfd`, `ioctl`.
    pub interrupts_by: &'static str,
    /// How often its driver broke the rules so that it had to be reset.
    pub faults: u64,
    pub queues: Vec<Queue>,
    /// The host's threads that served it; not those of other processes.
    pub threads: Vec<Thread>,
    pub operations: Vec<Operation>,
}

/// A queue of a device, as the thread of ours that served it has counted; `null` where another did.
#[derive(Clone, Debug, Serialize)]
pub struct Queue {
    /// Notifications, as their event fd has counted them; `null` with vhost-user, whose peer takes them
    /// out of it.
    pub kicks: Option<u64>,
    /// Those that came to this process: all of them to a worker of its own; to another's data path none
    /// but `kick_exits`.
    pub kicks_seen: u64,
    /// Kicks that were exits to userspace.
    pub kick_exits: u64,
    /// Requests or frames; several buffers of one frame count each.
    pub chains: Option<u64>,
    /// Payload.
    pub bytes: Option<u64>,
    pub interrupts: Option<u64>,
    /// Looks at an empty ring in busy polling, and those that found something.
    pub polls: Option<u64>,
    pub polls_found: Option<u64>,
    pub errors: Option<u64>,
    /// Waits for what `rate=` lets the device do in a second, and how long they were in all.
    pub throttled: Option<u64>,
    pub throttled_us: Option<u64>,
    /// Moves of the worker to the CPU of the vCPU that waits for it, and chains served there.
    pub follows: Option<u64>,
    pub chains_beside: Option<u64>,
    /// Of a send queue that vhost serves: time for which it was told, by nobody but `vmm`, to look for more before
    /// it sleeps.
    pub looked_us: Option<u64>,
}

/// A thread that served a device: a worker of this process, or the kernel's.
#[derive(Clone, Debug, Serialize)]
pub struct Thread {
    pub name: String,
    pub cpu_us: Option<u64>,
}

/// One kind of operation of a device.
#[derive(Clone, Debug, Serialize)]
pub struct Operation {
    pub name: &'static str,
    pub count: u64,
    pub bytes: u64,
    pub errors: u64,
    pub ns_p50: u64,
    pub ns_p99: u64,
    pub ns_max: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct Knob {
    pub flag: &'static str,
    pub asked: String,
    pub got: Option<String>,
    /// Path in this report → what stands there.
    pub evidence: BTreeMap<&'static str, Value>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Phase {
    pub name: String,
    pub wall_us: u64,
    pub exits: Exits,
    pub halts: Halts,
}

/// A result record of the guest.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    pub workload: String,
    pub part: String,
    /// `ok`, `unavailable:WHY`, `failed:WHY`.
    pub outcome: String,
    pub ops: u64,
    pub ns: u64,
    pub values: BTreeMap<String, u64>,
}
