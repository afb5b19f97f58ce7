//! What the run of a machine leaves behind, before anything is added up. Plain data: whoever ran the
//! machine fills it, [`build`](super::build) reads it.

use abi::mark::Mark;
use devices::virtio::front::DeviceCounts;

use crate::config::{Config, Knob};
use crate::kvm::canary::Canary;
use crate::kvm::stats::Counters;
use crate::kvm::stood::Stood;
use crate::run::cpu_group::Throttled;
use crate::run::end::End;
use crate::run::ledger::Ledger;
use crate::run::threads::Usage;
use crate::run::vcpu::Buses;
use crate::sandbox::Made;
use crate::sys::clock::TickRate;
use crate::trace::Traced;

use super::birth::Birth;
use super::host::Host;

/// All of them.
pub struct Facts<'a> {
    pub host: Host,
    pub config: &'a Config,
    pub end: &'a End,
    pub birth: Birth,
    pub rate: TickRate,
    /// Ticks when phase 0 began.
    pub started: u64,
    /// Ticks when the last vCPU had stopped.
    pub ended: u64,
    /// CPU time of the whole process, its vCPU threads included.
    pub process_cpu_ns: u64,
    /// `None`: it has no limit.
    pub throttled: Option<Throttled>,
    /// In order of their numbers.
    pub vcpus: Vec<VcpuFacts>,
    /// The marks that began phase 1, 2, …
    pub marks: Vec<MarkFacts>,
    /// Names for ports and addresses.
    pub buses: &'a Buses,
    /// KVM's counters after the guest had ended; `None` where this kernel has none.
    pub counters: Option<Counters>,
    /// Which of them this host moves.
    pub canary: Canary,
    /// Exits by the processor's reason; `None`: nobody asked; or why there is nothing. The thread behind
    /// the vCPUs' is the canary's.
    pub trace: Option<Result<Traced, String>>,
    pub memory: MemoryFacts,
    pub sandbox: Made,
    /// Of every device, after its workers have stopped.
    pub devices: Vec<DeviceCounts>,
    pub knobs: Vec<Got>,
    /// Lines that the guest has written to the record port.
    pub records: String,
    /// Bytes of records beyond what is kept.
    pub records_dropped_bytes: u64,
}

/// Of one vCPU thread.
pub struct VcpuFacts {
    pub ledger: Ledger,
    /// Ticks just before its first entry.
    pub first_entry: u64,
    /// What its thread has told when it ended.
    pub usage: Usage,
    /// KVM's counters of this vCPU alone.
    pub counters: Option<Counters>,
    /// How it stood, where the machine was ended from outside.
    pub stood: Option<Stood>,
}

/// A mark of the guest.
pub struct MarkFacts {
    pub mark: Mark,
    /// Ticks.
    pub at: u64,
    /// KVM's counters at that moment.
    pub counters: Option<Counters>,
}

/// Guest memory as it came out, and the monitor's own.
#[derive(Clone, Debug, Default)]
pub struct MemoryFacts {
    /// Size and backing, in words: `256M thp`.
    pub asked: String,
    /// Guest memory that is resident.
    pub got_bytes: Option<u64>,
    /// The part of `got_bytes` in pages of the size asked for, 0 to 1.
    pub coverage: Option<f64>,
    /// Private memory of this process besides the guest's.
    pub vmm_private_bytes: Option<u64>,
    /// All resident memory of this process besides the guest's.
    pub vmm_resident_bytes: Option<u64>,
}

/// What a knob that was set has become.
#[derive(Clone, Debug)]
pub struct Got {
    pub knob: Knob,
    /// In words: `on`, `0 of 512 pages: pool empty`.
    pub got: String,
}
