//! What the tracer has counted → rows by the processor's reason, and whether they add up.

use std::collections::BTreeMap;

use abi::histogram::Histogram;

use super::facts::Facts;
use super::model::{HardwareExit, Ipi, Trace, TraceSource, TracedEvent};
use crate::run::vcpu::Buses;
use crate::trace::program::{Event, kind};
use crate::trace::rows::{Detail, Key, Reason};
use crate::trace::{Traced, decode, registers};

/// The parts of a report that come from a tracer.
#[derive(Default)]
pub struct Sections {
    pub hardware: Option<Vec<HardwareExit>>,
    pub ipi: Option<Ipi>,
    /// `None`: nobody asked.
    pub trace: Option<Trace>,
}

/// `kvm_exits`: KVM's own count over the same interval, all vCPUs together.
pub fn sections(facts: &Facts, kvm_exits: Option<u64>) -> Sections {
    match &facts.trace {
        None => Sections::default(),
        Some(Err(why)) => Sections {
            trace: Some(Trace { why: Some(why.clone()), ..Trace::default() }),
            ..Sections::default()
        },
        Some(Ok(traced)) => of(traced, facts.vcpus.len(), facts.buses, kvm_exits),
    }
}

fn of(traced: &Traced, vcpus: usize, buses: &Buses, kvm_exits: Option<u64>) -> Sections {
    let fired = |event| traced.fired(event, vcpus);
    let sources: Vec<TraceSource> = Event::ALL.iter().map(|event| source(traced, *event, vcpus)).collect();
    let counts = |event: Event| sources[event as usize].counts;
    let mut trace = Trace {
        by: Some("bpf"),
        missed: Some(traced.missed),
        events: events(traced, vcpus, buses),
        ..Trace::default()
    };
    let hardware =
        (fired(Event::Exit) > 0 || counts(Event::Exit) == Some(true)).then(|| rows(traced, vcpus, buses));
    match &hardware {
        Some(rows) => {
            let counted = rows.iter().map(|row| row.count).sum();
            trace.exits = Some(counted);
            let lost =
                |exits: u64| i64::try_from(i128::from(exits) - i128::from(counted)).unwrap_or(i64::MAX);
            trace.lost = kvm_exits.map(lost);
        }
        None => {
            let words = "kvm_exit never fires on this host: its KVM takes no exits from the processor";
            trace.why = Some(words.into());
        }
    }
    let believed = fired(Event::Ipi) > 0 || counts(Event::Ipi) == Some(true);
    let ipi = believed.then(|| Ipi { count: fired(Event::Ipi), source: Event::Ipi.name() });
    trace.sources = sources;
    Sections { hardware, ipi, trace: Some(trace) }
}

/// What it has counted, and whether its zero is to be believed: the canary ran on a thread behind the
/// vCPUs', and everything here is among what it did, but for the fast path, which needs a doorbell.
fn source(traced: &Traced, event: Event, vcpus: usize) -> TraceSource {
    let canary = traced.fired.get(vcpus).map(|fired| fired[event as usize]);
    let fired = traced.fired(event, vcpus);
    let counts = match (fired, canary) {
        _ if !traced.present.contains(&event) => Some(false),
        (1.., _) | (_, Some(1..)) => Some(true),
        _ if event == Event::FastMmio => None,
        (0, Some(0)) => Some(false),
        (0, None) => None,
    };
    TraceSource { event: event.name(), fired, counts }
}

/// Rows that have the same words.
#[derive(Default)]
struct Sum {
    count: u64,
    times: Box<Histogram>,
    asleep_ns: u64,
    halt: bool,
}

/// A row for each vCPU, reason and target, those that took most time first.
pub fn rows(traced: &Traced, vcpus: usize, buses: &Buses) -> Vec<HardwareExit> {
    let mut sums: BTreeMap<(u8, String, Option<String>), Sum> = BTreeMap::new();
    for row in own(traced, vcpus).filter(|row| row.key.reason != Reason::None) {
        let Key { thread, reason, detail } = row.key;
        let key = (thread as u8, decode::reason(reason, detail), detail.map(|detail| target(detail, buses)));
        let sum = sums.entry(key).or_default();
        sum.count += row.count;
        sum.times.merge(&row.times);
        sum.asleep_ns += row.asleep_ns;
        sum.halt |= decode::is_halt(reason);
    }
    let whole: u64 = sums.values().map(|sum| sum.times.total()).sum();
    let row = |((vcpu, reason, target), sum): ((u8, String, Option<String>), Sum)| HardwareExit {
        vcpu,
        reason,
        target,
        count: sum.count,
        ns_total: sum.times.total(),
        ns_p50: sum.times.p50(),
        ns_p99: sum.times.p99(),
        ns_max: sum.times.max(),
        share: (whole > 0).then(|| (sum.times.total() as f64 / whole as f64 * 1e4).round() / 1e4),
        idle_ns: (sum.halt || sum.asleep_ns > 0).then_some(sum.asleep_ns),
    };
    let mut rows: Vec<HardwareExit> = sums.into_iter().map(row).collect();
    rows.sort_by_key(|row| std::cmp::Reverse((row.ns_total, row.count)));
    rows
}

/// What was seen where exits are not.
fn events(traced: &Traced, vcpus: usize, buses: &Buses) -> Vec<TracedEvent> {
    let mut sums: BTreeMap<(u8, String, Option<String>), u64> = BTreeMap::new();
    for row in own(traced, vcpus).filter(|row| row.key.reason == Reason::None) {
        let Key { thread, reason, detail } = row.key;
        let key = (thread as u8, decode::reason(reason, detail), detail.map(|detail| target(detail, buses)));
        *sums.entry(key).or_default() += row.count;
    }
    let row = |((vcpu, reason, target), count)| TracedEvent { vcpu, reason, target, count };
    let mut rows: Vec<TracedEvent> = sums.into_iter().map(row).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.count));
    rows
}

/// Rows of vCPUs, without the canary's.
fn own(traced: &Traced, vcpus: usize) -> impl Iterator<Item = &crate::trace::rows::Row> {
    traced.rows.iter().filter(move |row| row.key.thread < vcpus)
}

/// Device and register, by name where it has one.
fn target(detail: Detail, buses: &Buses) -> String {
    let Detail { kind, address } = detail;
    let (bus, space) = match kind {
        kind::MSR_READ | kind::MSR_WRITE => return registers::name(address),
        kind::PIO_READ | kind::PIO_WRITE => (&buses.port, "port"),
        _ => (&buses.memory, "mmio"),
    };
    match bus.describe(address, matches!(kind, kind::PIO_WRITE | kind::MMIO_WRITE)) {
        Some((device, register)) => format!("{device} {register}"),
        None if space == "mmio" && address & !0xfff == LOCAL_APIC => {
            format!("local APIC {:#x}", address & 0xfff)
        }
        None => format!("{space} {address:#x}"),
    }
}

/// Where every CPU finds its own, unless it moves it (SDM volume 3, §11.4.1).
const LOCAL_APIC: u64 = 0xfee0_0000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::rows::Row;

    fn row(thread: usize, number: u32, detail: Option<Detail>, each: &[u64], asleep_ns: u64) -> Row {
        let mut times = Histogram::new();
        each.iter().for_each(|ns| times.record(*ns));
        let key = Key { thread, reason: Reason::Exit { isa: 2, number }, detail };
        Row { key, count: times.count(), times, asleep_ns }
    }

    fn traced() -> Traced {
        let icr = Detail { kind: kind::MSR_WRITE, address: 0x830 };
        let mut fired = [[0; Event::ALL.len()]; 3];
        fired[0][Event::Exit as usize] = 5;
        fired[0][Event::Ipi as usize] = 2;
        fired[2][Event::Pio as usize] = 16;
        Traced {
            rows: vec![
                row(0, 0x7c, Some(icr), &[300, 500], 0),
                row(0, 0x78, None, &[200, 100, 100], 5_000_000),
                row(2, 0x7b, None, &[1; 16], 0),
            ],
            fired: fired.into(),
            unpaired: 0,
            missed: 0,
            present: Event::ALL.into(),
        }
    }

    #[test]
    fn reasons_add_up_and_sleep_is_no_cost() {
        let sections = of(&traced(), 2, &Buses::default(), Some(6));
        let rows = sections.hardware.unwrap();
        let of = |row: &HardwareExit| {
            (row.reason.clone(), row.target.clone(), row.count, row.ns_total, row.idle_ns)
        };
        assert_eq!(of(&rows[0]), ("MSR write".into(), Some("ICR: IPI".into()), 2, 800, None));
        assert_eq!(of(&rows[1]), ("HLT".into(), None, 3, 400, Some(5_000_000)));
        assert_eq!(rows.len(), 2, "the canary is no vCPU");
        assert_eq!(rows[0].share, Some(0.6667));
        let trace = sections.trace.unwrap();
        assert_eq!((trace.exits, trace.lost), (Some(5), Some(1)));
        assert_eq!(sections.ipi.map(|ipi| (ipi.count, ipi.source)), Some((2, "kvm_apic_ipi")));
        let counts = |event: Event| trace.sources[event as usize].counts;
        assert_eq!(
            (counts(Event::Pio), counts(Event::Mmio), counts(Event::FastMmio)),
            (Some(true), Some(false), None)
        );
    }

    #[test]
    fn a_silent_host_says_so_and_shows_what_it_has() {
        let port = Detail { kind: kind::PIO_WRITE, address: 0x61 };
        let key = Key { thread: 0, reason: Reason::None, detail: Some(port) };
        let silent = Traced {
            rows: vec![Row { key, count: 7, times: Histogram::new(), asleep_ns: 0 }],
            fired: vec![[0; Event::ALL.len()]; 2],
            present: Event::ALL.into(),
            ..Traced::default()
        };
        let sections = of(&silent, 1, &Buses::default(), Some(9));
        assert!(sections.hardware.is_none() && sections.ipi.is_none());
        let trace = sections.trace.unwrap();
        assert!(trace.why.unwrap().contains("never fires"));
        let expected =
            TracedEvent { vcpu: 0, reason: "I/O write".into(), target: Some("port 0x61".into()), count: 7 };
        assert_eq!(trace.events, [expected]);
        assert_eq!(trace.lost, None);
    }
}
