//! The table of exits: what KVM has counted, below it what of that returned to userspace and to
//! which register, and what is not explained.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::super::adds_up::class_of;
use super::super::kernel;
use super::super::model::{Exits, Report, Source, UserspaceExit};
use super::lines::{cut, finish, paragraph, prose};
use super::units::{count, duration, rate, share, signed};

/// Registers of one kind of exit that are shown unless all are asked for.
const SHOWN: usize = 6;
/// Columns left for the target.
const TARGET: usize = 24;

/// One line of the table; empty where there is nothing to say.
#[derive(Default)]
pub(super) struct Row<'a> {
    pub reason: &'a str,
    pub count: String,
    pub share: String,
    pub rate: String,
    pub mean: String,
    pub max: String,
    pub time: String,
    pub target: &'a str,
}

impl Row<'_> {
    /// The first line of a table.
    pub fn heading(reason: &'static str, share: &str) -> Row<'static> {
        let [count, share, rate, mean, max, time] =
            ["count", share, "per s", "mean", "max", "time"].map(str::to_owned);
        Row { reason, count, share, rate, mean, max, time, target: "target" }
    }

    pub fn write(&self, out: &mut String) {
        let Row { reason, count, share, rate, mean, max, time, target } = self;
        let target = cut(target, TARGET);
        let mut line = String::new();
        // Writing to a string cannot fail.
        let _ =
            write!(line, "{reason:<18}{count:>11}{share:>8}{rate:>10}{mean:>9}{max:>9}{time:>9}  {target}");
        finish(out, &line);
    }
}

/// Returns to userspace of all vCPUs with one reason and target.
struct Returns<'a> {
    reason: &'a str,
    target: &'a str,
    count: u64,
    ns: u64,
    max: u64,
}

/// Appends the table of the whole run.
pub fn table(out: &mut String, report: &Report, all: bool) {
    let exits = &report.exits;
    let us = report.time.wall_us.saturating_sub(report.time.exec_to_first_entry_us);
    let whole = exits.total.unwrap_or(0);
    Row::heading("exits", "share").write(out);
    let mut returns = merged(&exits.userspace);
    for part in &exits.explained {
        let idle = match (part.reason, report.halts.wait_ns) {
            ("halt", Some(ns)) => format!("idle: {} asleep", duration(ns)),
            _ => String::new(),
        };
        Row {
            reason: part.reason,
            count: count(part.count),
            share: share(part.count, whole),
            rate: rate(part.count, us),
            target: &idle,
            ..Row::default()
        }
        .write(out);
        let (mine, rest): (Vec<_>, Vec<_>) =
            returns.into_iter().partition(|row| class_of(row.reason) == part.reason);
        returns = rest;
        below(out, &mine, us, all);
        let returned: u64 = mine.iter().map(|row| row.count).sum();
        // KVM's count of ports holds what it answers itself (ioeventfd, PIT); that of MMIO does not.
        if part.reason == "io" && part.source == Source::Kvm && returned > 0 && part.count > returned {
            let inside = part.count - returned;
            let (count, rate) = (count(inside), rate(inside, us));
            Row { reason: "  kernel", count, rate, target: "answered by KVM", ..Row::default() }.write(out);
        }
    }
    let rest = exits.unexplained;
    let part = rest.and_then(|rest| u64::try_from(rest).ok()).unwrap_or(0);
    Row {
        reason: "not explained",
        count: rest.map_or("-".into(), signed),
        share: if rest.is_some() { share(part, whole) } else { String::new() },
        rate: if rest.is_some() { rate(part, us) } else { String::new() },
        ..Row::default()
    }
    .write(out);
    Row {
        reason: "total",
        count: exits.total.map_or("-".into(), count),
        rate: exits.total.map_or(String::new(), |total| rate(total, us)),
        ..Row::default()
    }
    .write(out);
    if !returns.is_empty() {
        out.push_str("returns that are no exits of their own, or of an unknown kind\n");
        below(out, &returns, us, all);
    }
    notes(out, exits);
}

fn below(out: &mut String, rows: &[Returns], us: u64, all: bool) {
    // One that is left over takes no more room than the line that would say so.
    let shown = if all || rows.len() == SHOWN + 1 { rows.len() } else { SHOWN };
    for row in rows.iter().take(shown) {
        Row {
            reason: &format!("  {}", row.reason),
            count: count(row.count),
            share: String::new(),
            rate: rate(row.count, us),
            mean: duration(row.ns / row.count.max(1)),
            max: duration(row.max),
            time: duration(row.ns),
            target: row.target,
        }
        .write(out);
    }
    if let Some(rest) = rows.get(shown..).filter(|rest| !rest.is_empty()) {
        let exits = rest.iter().map(|row| row.count).sum();
        let reason = format!("  … {} more", rest.len());
        let (count, rate, ns) = (count(exits), rate(exits, us), rest.iter().map(|row| row.ns).sum());
        let target = "-v shows them";
        Row { reason: &reason, count, rate, time: duration(ns), target, ..Row::default() }.write(out);
    }
}

fn notes(out: &mut String, exits: &Exits) {
    if exits.unexplained.is_some_and(|rest| rest > 0) {
        prose(
            out,
            "",
            "Not explained: what KVM counts only in the total, such as MSR and CPUID accesses, MMIO that \
             it answers itself, and, where ring 0 is interpreted, pauses of the interpreter.",
        );
    }
    let silent = kernel::exclusive().filter(|name| exits.kernel.get(name).is_none());
    let silent: Vec<String> = silent.map(str::to_owned).collect();
    paragraph(out, "no count", ", ", &silent);
    let exclusive: Vec<_> = kernel::exclusive().collect();
    let beside = exits
        .kernel
        .0
        .iter()
        .filter(|(name, value)| !exclusive.contains(name) && value.is_some_and(|v| v > 0));
    let beside: Vec<String> =
        beside.map(|(name, value)| format!("{name} {}", count(value.unwrap_or(0)))).collect();
    paragraph(out, "beside", " · ", &beside);
}

/// The vCPUs' rows together, most exits first.
fn merged(rows: &[UserspaceExit]) -> Vec<Returns<'_>> {
    let mut sums: BTreeMap<(&str, &str), Returns> = BTreeMap::new();
    for row in rows {
        let (reason, target) = (row.reason.as_str(), row.target.as_deref().unwrap_or(""));
        let sum = sums.entry((reason, target)).or_insert(Returns { reason, target, count: 0, ns: 0, max: 0 });
        sum.count += row.count;
        sum.ns = sum.ns.saturating_add(row.ns_total);
        sum.max = sum.max.max(row.ns_max);
    }
    let mut rows: Vec<_> = sums.into_values().collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.count));
    rows
}
