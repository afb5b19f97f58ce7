//! Exits by the processor's reason, and whether they are all.

use std::collections::BTreeMap;

use super::super::model::{HardwareExit, Report, Trace};
use super::exits::Row;
use super::lines::{paragraph, prose};
use super::units::{count, duration, rate, share, signed};

/// Rows that are shown unless all are asked for.
const SHOWN: usize = 12;

/// All vCPUs' exits of one reason and target.
#[derive(Default)]
struct Sum {
    count: u64,
    ns: u64,
    max: u64,
    idle: Option<u64>,
}

/// Appends the section, where a trace was asked for.
pub fn hardware(out: &mut String, report: &Report, all: bool) {
    let Some(trace) = &report.trace else { return };
    out.push('\n');
    match &report.exits.hardware {
        Some(rows) => table(out, report, rows, all),
        None => prose(out, "hardware", trace.why.as_deref().unwrap_or("not traced")),
    }
    if !trace.events.is_empty() {
        events(out, trace, all);
    }
    notes(out, report, trace);
}

fn table(out: &mut String, report: &Report, rows: &[HardwareExit], all: bool) {
    let us = report.time.wall_us.saturating_sub(report.time.exec_to_first_entry_us);
    let mut sums: BTreeMap<(&str, &str), Sum> = BTreeMap::new();
    for row in rows {
        let sum = sums.entry((&row.reason, row.target.as_deref().unwrap_or(""))).or_default();
        sum.count += row.count;
        sum.ns = sum.ns.saturating_add(row.ns_total);
        sum.max = sum.max.max(row.ns_max);
        sum.idle = sum.idle.map_or(row.idle_ns, |idle| Some(idle + row.idle_ns.unwrap_or(0)));
    }
    let whole: u64 = sums.values().map(|sum| sum.ns).sum();
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by_key(|(_, sum)| std::cmp::Reverse((sum.ns, sum.count)));
    let shown = if all { sums.len() } else { SHOWN };
    Row::heading("by the processor", "share").write(out);
    for ((reason, target), sum) in sums.iter().take(shown) {
        let idle = sum.idle.filter(|_| target.is_empty()).map(|ns| format!("idle: {} asleep", duration(ns)));
        Row {
            reason,
            count: count(sum.count),
            share: share(sum.ns, whole),
            rate: rate(sum.count, us),
            mean: duration(sum.ns / sum.count.max(1)),
            max: duration(sum.max),
            time: duration(sum.ns),
            target: idle.as_deref().unwrap_or(target),
        }
        .write(out);
    }
    if let Some(rest) = sums.get(shown..).filter(|rest| !rest.is_empty()) {
        let (reason, ns) = (format!("… and {} more", rest.len()), rest.iter().map(|(_, sum)| sum.ns).sum());
        let exits = rest.iter().map(|(_, sum)| sum.count).sum();
        Row {
            reason: &reason,
            count: count(exits),
            share: share(ns, whole),
            rate: rate(exits, us),
            time: duration(ns),
            target: "-v shows them",
            ..Row::default()
        }
        .write(out);
    }
    let exits = sums.iter().map(|(_, sum)| sum.count).sum();
    Row {
        reason: "all",
        count: count(exits),
        rate: rate(exits, us),
        time: duration(whole),
        ..Row::default()
    }
    .write(out);
}

fn events(out: &mut String, trace: &Trace, all: bool) {
    let mut sums: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for row in &trace.events {
        *sums.entry((&row.reason, row.target.as_deref().unwrap_or(""))).or_default() += row.count;
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let rest = if all { 0 } else { sums.len().saturating_sub(SHOWN) };
    let mut items: Vec<String> = sums
        .iter()
        .take(sums.len() - rest)
        .map(|((reason, target), sum)| format!("{reason} {target} {}", count(*sum)))
        .collect();
    items.extend((rest > 0).then(|| format!("{rest} more: -v shows them")));
    paragraph(out, "traced", " · ", &items);
}

fn notes(out: &mut String, report: &Report, trace: &Trace) {
    match (trace.exits, trace.lost, report.exits.total) {
        (Some(exits), Some(0), Some(total)) => {
            prose(
                out,
                "",
                &format!("All {} exits that KVM has counted are here ({}).", count(total), count(exits)),
            );
        }
        (Some(exits), Some(lost), Some(total)) => {
            let (lost, missed) = (signed(lost), count(trace.missed.unwrap_or(0)));
            let words = format!(
                "KVM has counted {}, these are {}: {lost} lost, while programs were passed over {missed} times.",
                count(total),
                count(exits)
            );
            prose(out, "", &words);
        }
        _ => {}
    }
    if let Some(ipi) = &report.exits.ipi {
        prose(out, "", &format!("{} IPIs were sent through KVM ({}).", count(ipi.count), ipi.source));
    }
    let silent = trace
        .sources
        .iter()
        .filter(|source| source.counts == Some(false))
        .map(|source| source.event.to_owned());
    paragraph(out, "silent", ", ", &silent.collect::<Vec<_>>());
}
