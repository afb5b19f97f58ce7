//! A run with known facts, from ledgers and counters to text and JSON.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use abi::mark::Mark;
use devices::bus::{Effect, Registers};

use super::*;
use crate::config::{Asked, Backing, Boot, Config, Console, Idle, Knob, Memory, Pinning, Pv};
use crate::kvm::canary::Canary;
use crate::kvm::exit::ExitKind;
use crate::kvm::stats::Counters;
use crate::run::cpu_group::Throttled;
use crate::run::end::End;
use crate::run::ledger::{Exit, Ledger};
use crate::run::threads::Usage;
use crate::run::vcpu::Buses;
use crate::sandbox::Made;
use crate::status::Status;
use crate::sys::clock::TickRate;
use crate::sys::switches::Switches;

struct Uart;

impl Registers for Uart {
    fn name(&self) -> String {
        "serial.0".into()
    }
    fn register(&self, offset: u64, write: bool) -> &'static str {
        match (offset, write) {
            (0, true) => "THR",
            (5, false) => "LSR",
            _ => "other",
        }
    }
    fn read(&mut self, _: u64, _: &mut [u8]) {}
    fn write(&mut self, _: u64, _: &[u8]) -> Effect {
        Effect::None
    }
}

fn buses() -> Buses {
    let mut buses = Buses::default();
    buses.port.attach(0x3f8, 8, Arc::new(Mutex::new(Uart))).unwrap();
    buses
}

fn config() -> Config {
    let asked = |knob, value: &str| Asked { knob, value: value.into() };
    Config {
        boot: Boot { workloads: vec!["null,items=9".into()], ..Boot::default() },
        vcpus: 2,
        memory: Memory { size: 256 << 20, backing: Backing::Thp, prefault: false, shared: false },
        pin: Pinning { vcpus: vec![(0, 1)], workers: vec![] },
        cpu_limit: None,
        halt_poll_ns: Some(50_000),
        idle: Idle::Halt,
        pv: Pv { eoi: Some(false), ..Pv::default() },
        disks: vec![],
        nets: vec![],
        virtio: crate::config::Virtio::default(),
        rng: false,
        vsock: None,
        console: Console::default(),
        reports: vec![],
        live: false,
        trace_exits: false,
        timeout: Some(Duration::from_secs(9)),
        sandbox: true,
        verbose: false,
        asked: vec![asked(Knob::HaltPoll, "50000"), asked(Knob::Thp, "on")],
    }
}

fn end(status: Status, word: &'static str, line: &str) -> End {
    End { status, word, code: None, line: line.into(), dump: None }
}

/// Two phases of vCPU 0: a few THR writes and LSR reads, then many writes to a port where nothing is,
/// each 2 µs.
fn busy(tick: u64) -> Ledger {
    let phase = Arc::new(AtomicU32::new(0));
    let mut ledger = Ledger::new(phase.clone());
    let mut now = 0;
    let mut count = |ledger: &mut Ledger, kind, address, times: u64| {
        for _ in 0..times {
            ledger.returned(Exit { kind, address, size: 1 }, now);
            now += 2 * tick;
            ledger.answered(now);
        }
    };
    count(&mut ledger, ExitKind::PioWrite, 0x3f8, 3);
    count(&mut ledger, ExitKind::PioRead, 0x3fd, 2);
    count(&mut ledger, ExitKind::Interrupted, 0, 1);
    phase.store(1, Ordering::Relaxed);
    count(&mut ledger, ExitKind::PioWrite, 0x61, 1000);
    count(&mut ledger, ExitKind::MmioWrite, 0xfec0_0000, 7);
    ledger
}

fn counters(scale: u64) -> Counters {
    Counters::of(
        &[("pages_4k", 40), ("pages_2m", 12), ("pages_1g", 0)],
        &[
            ("exits", 1500 * scale),
            ("io_exits", 1105 * scale),
            ("mmio_exits", 7 * scale),
            ("halt_exits", 150 * scale),
            ("irq_exits", 90 * scale),
            ("irq_window_exits", 0),
            ("hypercalls", 0),
            ("pf_taken", 50 * scale),
            ("pf_emulate", 3 * scale),
            ("signal_exits", scale),
            ("insn_emulation", 30 * scale),
            ("halt_attempted_poll", 20 * scale),
            ("halt_successful_poll", 5 * scale),
            ("halt_poll_success_ns", 1000 * scale),
            ("halt_poll_fail_ns", 4000 * scale),
            ("halt_wait_ns", 600_000_000 * scale),
            ("halt_wakeup", 15 * scale),
        ],
    )
}

/// A thread that was pinned, and shared its CPU.
fn usage(cpu_ns: u64) -> Usage {
    Usage {
        cpu_ns,
        waited_ns: Some(7_000_000),
        switches: Switches { slept: 30, preempted: 4 },
        allowed: vec![1],
        migrations: Some(0),
    }
}

/// A tick is a nanosecond; phase 0 begins 4 ms after exec.
fn report() -> Report {
    let (buses, config) = (buses(), config());
    let end = end(Status::Guest(3), "exit", "the guest ended with status 3");
    let vcpu = |ledger, first_entry, cpu_ns| VcpuFacts {
        ledger,
        first_entry,
        usage: usage(cpu_ns),
        counters: Some(counters(1)),
        stood: None,
    };
    build(&Facts {
        host: Host {
            kvm: "svm",
            nested: Some(true),
            kernel: Some("6.1.0-56-amd64".into()),
            cpu: Some("AMD EPYC 9B14".into()),
            cpus: Some(2),
        },
        config: &config,
        end: &end,
        birth: Birth::known(0, 500_000),
        rate: TickRate::known(1, 1),
        started: 3_500_000,
        ended: 1_003_500_000,
        process_cpu_ns: 420_000_000,
        throttled: None,
        vcpus: vec![
            vcpu(busy(1000), 3_500_000, 400_000_000),
            vcpu(Ledger::new(Arc::default()), 3_600_000, 8_000_000),
        ],
        marks: vec![MarkFacts { mark: Mark::Ready, at: 103_500_000, counters: Some(counters(1)) }],
        buses: &buses,
        counters: Some(counters(2)),
        canary: Canary::saw(&["pages_4k"], &["exits", "io_exits", "irq_window_exits"]),
        trace: None,
        sandbox: Made { seccomp: true, landlock: Some(7) },
        memory: MemoryFacts {
            asked: "256 MiB in transparent huge pages".into(),
            got_bytes: Some(104 << 20),
            coverage: Some(0.98),
            vmm_private_bytes: Some(300 << 10),
            vmm_resident_bytes: Some(1800 << 10),
        },
        devices: vec![],
        knobs: vec![Got { knob: Knob::HaltPoll, got: "50000 ns".into() }],
        records: "null,items=9 read-only ok ops=9 ns=900 halts=2\nnonsense\n".into(),
        records_dropped_bytes: 0,
    })
}

#[test]
fn the_sum_is_honest() {
    let report = report();
    let exits = &report.exits;
    assert_eq!(exits.total, Some(3000));
    let explained: u64 = exits.explained.iter().map(|part| part.count).sum();
    // io 2210, halt 300, irq 180, page_fault 94, mmio 14.
    assert_eq!((explained, exits.unexplained), (2798, Some(202)));
    assert_eq!((exits.kernel.get("hypercall"), exits.kernel.get("irq_window")), (None, Some(0)));
    assert_eq!(report.phases.iter().map(|phase| phase.exits.total).collect::<Vec<_>>(), [Some(1500); 2]);
    let returns = |n: usize| report.phases[n].exits.userspace.iter().map(|row| row.count).sum::<u64>();
    assert_eq!((returns(0), returns(1)), (6, 1007));
    assert_eq!(report.time.exec_to_first_entry_us, 4000);
    assert_eq!(report.time.exec_to_ready_us, Some(104_000));
    assert_eq!(report.time.vmm_cpu_us, 12_000);
}

#[test]
fn the_evidence_of_every_knob_is_in_the_report() {
    let report = serde_json::to_value(report()).unwrap();
    for path in Knob::ALL.iter().flat_map(|knob| knob.evidence()) {
        assert!(evidence::at(&report, path).is_some(), "{path}");
    }
    assert_eq!(evidence::at(&report, "vcpus.migrations"), Some(serde_json::json!([0, 0])));
}

#[test]
fn text_is_as_agreed() {
    let text = text::render(&report(), false);
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    assert_eq!(text, include_str!("golden.txt"), "\n{text}");
}

#[test]
fn json_is_as_agreed() {
    let json = json::render(&report());
    assert_eq!(json, include_str!("golden.json"), "\n{json}");
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    for key in ["host", "config", "guest", "time", "exits", "halts", "memory", "devices", "knobs", "phases"] {
        assert!(value.get(key).is_some(), "{key}");
    }
}

#[test]
fn a_host_without_counters_says_null_and_the_machine_is_reported_all_the_same() {
    let (buses, config) = (buses(), config());
    let end = end(Status::Timeout, "timeout", "the time is up");
    let mut facts = Facts {
        host: Host { kvm: "unknown", nested: None, kernel: None, cpu: None, cpus: None },
        config: &config,
        end: &end,
        birth: Birth::known(0, 0),
        rate: TickRate::known(1, 1),
        started: 0,
        ended: 0,
        process_cpu_ns: 0,
        throttled: Some(Throttled { periods: 20, times: 12, us: 345_000 }),
        vcpus: vec![],
        marks: vec![],
        buses: &buses,
        counters: None,
        canary: Canary::default(),
        trace: None,
        sandbox: Made::default(),
        memory: MemoryFacts::default(),
        devices: vec![],
        knobs: vec![],
        records: String::new(),
        records_dropped_bytes: 7,
    };
    let empty = build(&facts);
    assert_eq!((empty.exits.total, empty.exits.unexplained, empty.halts.wait_ns), (None, None, None));
    let text = text::render(&empty, false);
    assert!(text.contains("not explained               -"), "{text}");
    assert!(text.contains("at its limit in 12 of 20 periods, for 345 ms"), "{text}");
    assert!(text.contains("result     7 bytes of results are lost"), "{text}");
    facts.vcpus.push(VcpuFacts {
        ledger: busy(1),
        first_entry: 0,
        usage: usage(5),
        counters: None,
        stood: None,
    });
    let busy = build(&facts);
    assert_eq!(busy.exits.explained.first().map(|part| (part.reason, part.count)), Some(("io", 1005)));
    text::render(&busy, true);
}
