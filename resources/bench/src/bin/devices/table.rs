//! Rates as ratios to QEMU's microvm in the same run, what each operation cost, and what is aimed at.

use bench::table::{median, print};

use crate::measure::Sample;
use crate::monitor::{Kind, Setting};
use crate::work::Work;

/// A setting and every sample of it.
pub struct Points<'a> {
    pub setting: &'a Setting,
    pub samples: Vec<Sample>,
}

const COLUMNS: [&str; 11] = [
    "",
    "ops/s",
    "min..max",
    "ratio",
    "target",
    "exits/op",
    "target",
    "to userspace/op",
    "interrupts/op",
    "CPU ms/op",
    "calls/op",
];

/// One table for each work, and which knobs stand behind a name.
pub fn all(points: &[Points<'_>], works: &[Work], detail: bool) {
    for &work in works {
        let of = |points: &Points<'_>| -> Vec<Sample> {
            points.samples.iter().filter(|sample| sample.work == work).cloned().collect()
        };
        let reference = points.iter().find(|p| p.setting.kind == Kind::Microvm && !p.setting.vhost);
        let reference = reference.map_or(f64::NAN, |points| median(&rates(&of(points))));
        let mut rows = vec![COLUMNS.map(String::from).to_vec()];
        for points in points {
            let samples = of(points);
            if !samples.is_empty() {
                rows.push(line(work, points.setting, &samples, reference));
            }
        }
        print(work.title(), &rows);
        if detail {
            for points in points {
                reasons(&points.setting.name, &of(points));
            }
        }
    }
    let rows: Vec<_> = points
        .iter()
        .filter(|points| !points.setting.plain() && !points.samples.is_empty())
        .map(|points| vec![points.setting.name.clone(), points.setting.knobs.join(" ")])
        .collect();
    if !rows.is_empty() {
        print("knobs", &rows);
    }
}

/// Rates of the runs that were not traced.
fn rates(samples: &[Sample]) -> Vec<f64> {
    let timed = samples.iter().filter(|sample| sample.traced.is_none());
    timed.map(|sample| sample.ops as f64 * 1e9 / sample.ns as f64).collect()
}

fn line(work: Work, setting: &Setting, samples: &[Sample], reference: f64) -> Vec<String> {
    let rates = rates(samples);
    let bound = |pick: fn(f64, f64) -> f64| rates.iter().copied().reduce(pick).unwrap_or(f64::NAN);
    let per = |of: fn(&Sample) -> u64| {
        median(&samples.iter().map(|sample| of(sample) as f64 / sample.ops as f64).collect::<Vec<_>>())
    };
    let timed: Vec<f64> = samples
        .iter()
        .filter(|sample| sample.traced.is_none())
        .map(|sample| sample.cpu_ns as f64 / 1e6 / sample.ops as f64)
        .collect();
    let calls = samples.iter().find_map(|s| Some(s.traced.as_ref()?.syscalls as f64 / s.ops as f64));
    let target = (setting.kind == Kind::Vmm).then(|| work.target(setting.vhost, !setting.plain())).flatten();
    vec![
        setting.name.clone(),
        format!("{:.0}", median(&rates)),
        format!("{:.0}..{:.0}", bound(f64::min), bound(f64::max)),
        format!("{:.2}", median(&rates) / reference),
        target.map(|target| format!(">= {}", target.ratio)).unwrap_or_default(),
        format!("{:.2}", per(|sample| sample.exits)),
        target.and_then(|target| target.exits).map(|exits| format!("<= {exits}")).unwrap_or_default(),
        format!("{:.3}", per(|sample| sample.userspace)),
        format!("{:.2}", per(|sample| sample.injected)),
        format!("{:.3}", median(&timed)),
        calls.map(|calls| format!("{calls:.3}")).unwrap_or_default(),
    ]
}

/// Exits for each operation by hardware reason, accesses of model-specific registers and interrupts by vector,
/// most first.
fn reasons(name: &str, samples: &[Sample]) {
    let Some((traced, ops)) = samples.iter().find_map(|s| Some((s.traced.as_ref()?, s.ops))) else { return };
    let counts = [
        ("", &traced.reasons, reason as fn(&str) -> String),
        ("; MSRs: ", &traced.registers, register),
        ("; vectors: ", &traced.vectors, vector),
    ];
    let words = counts.map(|(title, counts, word)| {
        let mut sorted: Vec<_> = counts.iter().collect();
        sorted.sort_by_key(|(_, hits)| std::cmp::Reverse(**hits));
        let shown = sorted.iter().filter(|(_, hits)| **hits * 200 > ops);
        let words: Vec<_> =
            shown.map(|(key, hits)| format!("{} {:.3}", word(key), **hits as f64 / ops as f64)).collect();
        format!("{title}{}", words.join(" · "))
    });
    println!("    {name}: {}", words.concat());
}

/// The numbers of a histogram's key.
fn numbers(key: &str) -> impl Iterator<Item = u32> {
    key.split([' ', ',']).filter_map(|word| word.parse().ok())
}

/// `write: N, ecx: N`, by the names of Intel SDM vol. 4.
fn register(key: &str) -> String {
    let mut numbers = numbers(key);
    let deed = if numbers.next() == Some(0) { "read" } else { "write" };
    match numbers.next() {
        Some(0x6e0) => format!("TSC deadline {deed}"),
        Some(0x80b) => format!("EOI {deed}"),
        Some(0x830) => format!("ICR {deed}"),
        Some(0x838) => format!("timer count {deed}"),
        number => format!("{:#x} {deed}", number.unwrap_or_default()),
    }
}

/// `vec: N`.
fn vector(key: &str) -> String {
    numbers(key).next().map_or_else(|| key.into(), |vector| format!("{vector:#x}"))
}

/// `isa: N, exit_reason: N` in words, where there are some (AMD APM vol. 2 app. C, Intel SDM vol. 3 app. C).
fn reason(key: &str) -> String {
    let mut numbers = numbers(key);
    let word = match (numbers.next(), numbers.next()) {
        (Some(2), Some(0x60)) | (Some(1), Some(1)) => "interrupt",
        (Some(2), Some(0x64)) | (Some(1), Some(7)) => "interrupt window",
        (Some(2), Some(0x78)) | (Some(1), Some(12)) => "HLT",
        (Some(2), Some(0x7b)) | (Some(1), Some(30)) => "port",
        (Some(2), Some(0x7c)) | (Some(1), Some(31 | 32)) => "MSR",
        (Some(2), Some(0x400)) | (Some(1), Some(48)) => "nested page fault",
        (Some(1), Some(49)) => "EPT misconfiguration",
        _ => return key.into(),
    };
    word.into()
}
