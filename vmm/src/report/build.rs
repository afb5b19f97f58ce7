//! Facts → model.

use abi::mark::Mark;
use abi::record::{Outcome, Record as Line};

use super::facts::Facts;
use super::kernel::Trust;
use super::model::{Exits, Guest, Memory, Record, Report, SCHEMA, Sandbox, Stood, Time, UserspaceExit, Vcpu};
use super::{adds_up, device, evidence, hardware, hot, phases, resolved, userspace};
use crate::kvm::stats::Counters;
use crate::kvm::stood as kvm;

/// Adds up what a run has left behind.
pub fn build(facts: &Facts) -> Report {
    let none = Counters::default();
    let counters = facts.counters.as_ref();
    let trust = Trust { canary: &facts.canary, whole: counters.unwrap_or(&none) };
    let total = counters.and_then(|counters| trust.total(counters));
    let traced = hardware::sections(facts, total);
    let exits = adds_up::exits(total, trust.kernel(counters), userspace_rows(facts, None));
    let exits = Exits { hardware: traced.hardware, ipi: traced.ipi, ..exits };
    let halts = trust.halts(counters);
    let mut report = Report {
        schema: SCHEMA,
        host: facts.host.clone(),
        config: resolved::config(facts.config),
        guest: Guest {
            end: facts.end.word,
            code: facts.end.code,
            status: facts.end.status.code(),
            why: facts.end.line.clone(),
        },
        time: time(facts),
        hot: hot::hot(&exits),
        waits: hot::waits(facts, &halts),
        exits,
        trace: traced.trace,
        halts,
        sandbox: Sandbox { seccomp: facts.sandbox.seccomp, landlock_version: facts.sandbox.landlock },
        memory: Memory {
            asked: facts.memory.asked.clone(),
            got_bytes: facts.memory.got_bytes,
            coverage: facts.memory.coverage,
            pages_4k: trust.pages("pages_4k"),
            pages_2m: trust.pages("pages_2m"),
            pages_1g: trust.pages("pages_1g"),
            vmm_private_bytes: facts.memory.vmm_private_bytes,
            vmm_resident_bytes: facts.memory.vmm_resident_bytes,
        },
        vcpus: vcpus(facts, &trust),
        devices: facts.devices.iter().map(|counts| device::device(counts, facts.config)).collect(),
        knobs: Vec::new(),
        phases: phases::phases(facts, &trust),
        records: facts.records.lines().filter_map(record).collect(),
        records_dropped_bytes: facts.records_dropped_bytes,
    };
    report.knobs = evidence::knobs(&facts.config.asked, &facts.knobs, &report);
    report
}

/// The rows of all vCPUs: of one phase, or of all.
pub fn userspace_rows(facts: &Facts, phase: Option<u32>) -> Vec<UserspaceExit> {
    let of = |(vcpu, one): (u8, &super::VcpuFacts)| {
        userspace::rows(vcpu, &one.ledger, phase, facts.buses, facts.rate)
    };
    (0..).zip(&facts.vcpus).flat_map(of).collect()
}

fn time(facts: &Facts) -> Time {
    let at = |ticks| facts.birth.until_us(ticks, facts.rate);
    let in_vcpus: u64 = facts.vcpus.iter().map(|vcpu| vcpu.usage.cpu_ns).sum();
    let first_entry = facts.vcpus.iter().map(|vcpu| vcpu.first_entry).min();
    Time {
        exec_to_first_entry_us: at(first_entry.unwrap_or(facts.started)),
        exec_to_ready_us: facts.marks.iter().find(|mark| mark.mark == Mark::Ready).map(|mark| at(mark.at)),
        wall_us: at(facts.ended),
        vcpu_cpu_us: facts.vcpus.iter().map(|vcpu| vcpu.usage.cpu_ns / 1000).collect(),
        vmm_cpu_us: facts.process_cpu_ns.saturating_sub(in_vcpus) / 1000,
        cpu_periods: facts.throttled.map(|throttled| throttled.periods),
        cpu_throttled: facts.throttled.map(|throttled| throttled.times),
        cpu_throttled_us: facts.throttled.map(|throttled| throttled.us),
    }
}

fn vcpus(facts: &Facts, trust: &Trust) -> Vec<Vcpu> {
    let of = |(vcpu, one): (u8, &super::VcpuFacts)| {
        let counters = one.counters.as_ref();
        Vcpu {
            vcpu,
            exits: counters.and_then(|counters| trust.total(counters)),
            userspace_exits: one.ledger.count(),
            cpus: one.usage.allowed.clone(),
            migrations: one.usage.migrations,
            preempted: one.usage.switches.preempted,
            waited_us: one.usage.waited_ns.map(|ns| ns / 1000),
            stood: one.stood.as_ref().map(stood),
            kernel: trust.kernel(counters),
            halts: trust.halts(counters),
        }
    };
    (0..).zip(&facts.vcpus).map(of).collect()
}

fn stood(stood: &kvm::Stood) -> Stood {
    let (regs, sregs) = (&stood.registers.regs, &stood.registers.sregs);
    let hex = |register: u64| format!("{register:#x}");
    Stood {
        state: stood.state,
        mode: stood.mode(),
        ring: stood.ring(),
        takes_interrupts: stood.takes_interrupts(),
        rip: hex(regs.rip),
        rsp: hex(regs.rsp),
        cr2: hex(sregs.cr2),
        cr3: hex(sregs.cr3),
        requested: stood.requested.clone(),
        in_service: stood.in_service.clone(),
    }
}

/// A line of the record port; what is no record is the guest's own affair.
fn record(line: &str) -> Option<Record> {
    let record = Line::decode(line)?;
    Some(Record {
        workload: record.workload.to_owned(),
        part: record.part.to_owned(),
        outcome: match record.outcome {
            Outcome::Ok => "ok".to_owned(),
            Outcome::Unavailable(why) => format!("unavailable:{why}"),
            Outcome::Failed(why) => format!("failed:{why}"),
        },
        ops: record.ops,
        ns: record.ns,
        values: record.values().iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
    })
}
