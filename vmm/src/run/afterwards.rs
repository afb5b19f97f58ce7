//! What the run of a machine has left behind, gathered for its report.

use std::sync::{Mutex, PoisonError};

use devices::exit_port::ExitPort;
use devices::virtio::front::DeviceCounts;
use kvm_ioctls::Kvm;

use super::cpu_group::Throttled;
use super::end::End;
use super::machine::{Finished, Outcome, Why};
use super::phases::Boundary;
use super::vcpu::Buses;
use crate::config::Config;
use crate::kvm::canary::Canary;
use crate::kvm::class::Class;
use crate::kvm::stats::{Counters, Snapshot};
use crate::kvm::stood::Stood;
use crate::machine::Applied;
use crate::machine::memory::MemoryEvidence;
use crate::report::{Birth, Facts, Got, Host, MarkFacts, MemoryFacts, VcpuFacts, got};
use crate::sandbox;
use crate::sys::clock::now_ns;

/// What the report is about, besides the outcome itself.
pub struct Scene<'a> {
    pub kvm: &'a Kvm,
    pub config: &'a Config,
    pub birth: Birth,
    pub end: &'a End,
    pub buses: &'a Buses,
    pub devices: Vec<DeviceCounts>,
    /// Device workers, and the host CPUs that each was let on.
    pub workers: Vec<(String, Vec<usize>)>,
    pub exit_port: &'a Mutex<ExitPort>,
    pub applied: &'a Applied,
    /// As it was when the guest had ended.
    pub memory: Option<MemoryEvidence>,
    pub throttled: Option<Throttled>,
    pub sandbox: sandbox::Made,
}

/// Asks /proc and runs the canary: some milliseconds, after the guest has ended.
pub fn gather<'a>(scene: Scene<'a>, outcome: Outcome) -> Facts<'a> {
    let memory = scene.memory;
    let process_cpu_ns = now_ns(libc::CLOCK_PROCESS_CPUTIME_ID);
    let rate = scene.birth.rate();
    let class = Class::detect();
    let canary = Canary::run(scene.kvm, class);
    // The canary was the last that it had to see.
    let trace = outcome.tracer.map(|tracer| {
        let traced = tracer.and_then(|tracer| Ok(tracer.collect()?));
        traced.map_err(|error| error.to_string())
    });
    let statistics = outcome.statistics.as_deref();
    let named = |snapshot: &Snapshot| statistics?.counters(snapshot);
    let usages: Vec<_> = outcome.vcpus.iter().map(|one| (one.stopped.id, one.usage.clone())).collect();
    let knobs = scene.config.asked.iter().map(|asked| Got {
        knob: asked.knob,
        got: got::words(
            asked.knob,
            scene.config,
            scene.applied,
            &usages,
            &scene.workers,
            memory.as_ref(),
            scene.sandbox,
        ),
    });
    let mark = |boundary: Boundary| MarkFacts {
        mark: boundary.mark,
        at: boundary.at,
        counters: boundary.stats.as_ref().and_then(named),
    };
    let from_outside = matches!(outcome.why, Why::Outside(_));
    let records = scene.exit_port.lock().unwrap_or_else(PoisonError::into_inner).finish();
    Facts {
        host: Host::detect(class),
        config: scene.config,
        end: scene.end,
        birth: scene.birth,
        rate,
        started: outcome.span.0,
        ended: outcome.span.1,
        process_cpu_ns,
        throttled: scene.throttled,
        knobs: knobs.collect(),
        devices: scene.devices,
        counters: outcome.stats.as_ref().and_then(named),
        marks: outcome.boundaries.into_iter().map(mark).collect(),
        vcpus: outcome
            .vcpus
            .into_iter()
            .map(|one| vcpu(one, from_outside, |id| statistics?.of_vcpu(id)))
            .collect(),
        buses: scene.buses,
        canary,
        trace,
        memory: MemoryFacts {
            asked: got::memory(&scene.config.memory),
            got_bytes: memory.as_ref().map(|memory| memory.got_bytes),
            coverage: memory.as_ref().and_then(|memory| memory.coverage()),
            vmm_private_bytes: memory.as_ref().map(|memory| memory.vmm_private_bytes),
            vmm_resident_bytes: memory.as_ref().map(|memory| memory.vmm_resident_bytes),
        },
        sandbox: scene.sandbox,
        records: records.text,
        records_dropped_bytes: records.dropped,
    }
}

fn vcpu(one: Finished, from_outside: bool, counters: impl Fn(usize) -> Option<Counters>) -> VcpuFacts {
    VcpuFacts {
        stood: from_outside.then(|| Stood::of(&one.vcpu)).flatten(),
        counters: counters(one.stopped.id.into()),
        ledger: one.stopped.ledger,
        first_entry: one.stopped.first_entry,
        usage: one.usage,
    }
}
