//! The tour, stop by stop: what was done, what one of it cost, how many exits it took, and what that
//! shows.

use std::fmt::Write;

use abi::tour::{NEXT, TOUR};

use super::lines::{finish, prose};
use super::units::{count, duration};
use crate::report::model::{Explained, Record, Report};

/// Exits of an operation that are not worth a word.
const FEW: f64 = 0.05;

/// Appends it, where it is what was run.
pub fn tour(out: &mut String, report: &Report) {
    if report.config["workloads"] != serde_json::json!(TOUR.map(|stop| stop.workload)) {
        return;
    }
    out.push('\n');
    line(out, ["tour", "done", "each", "exits each"], "");
    for stop in TOUR {
        let phase = report.phases.iter().find(|phase| phase.name == stop.workload);
        let records: Vec<&Record> =
            report.records.iter().filter(|record| record.workload == stop.workload).collect();
        let (ops, ns) = records.iter().fold((0, 0), |(ops, ns), record| (ops + record.ops, ns + record.ns));
        let exits = phase.and_then(|phase| phase.exits.total).filter(|_| ops > 0);
        let each = ns.checked_div(ops).map_or("-".into(), duration);
        let exits = exits.map_or("-".into(), |exits| format!("{:.2}", exits as f64 / ops as f64));
        // Why there is nothing to count.
        let refused = records.iter().find(|record| record.outcome != "ok");
        let shows = refused.map_or(stop.shows, |record| record.outcome.as_str());
        line(out, [stop.workload, &count(ops), &each, &exits], shows);
        let reasons = phase
            .map_or(String::new(), |phase| by_reason(&phase.exits.explained, phase.exits.unexplained, ops));
        if !reasons.is_empty() {
            finish(out, &format!("    {reasons}"));
        }
    }
    out.push('\n');
    for (number, command) in NEXT.iter().enumerate() {
        prose(out, if number == 0 { "try next" } else { "" }, command);
    }
}

/// The exits of one operation, by reason, but for those that few of them took.
fn by_reason(explained: &[Explained], unexplained: Option<i64>, ops: u64) -> String {
    let unexplained = unexplained.and_then(|count| u64::try_from(count).ok()).unwrap_or(0);
    let rows = explained.iter().map(|row| (row.reason, row.count));
    let each = rows.chain([("not explained", unexplained)]).filter_map(|(reason, count)| {
        let each = count as f64 / ops.max(1) as f64;
        (ops > 0 && each >= FEW).then(|| format!("{reason} {each:.2}"))
    });
    each.collect::<Vec<_>>().join(" · ")
}

/// A row, and below it what it shows.
fn line(out: &mut String, [name, done, each, exits]: [&str; 4], shows: &str) {
    let mut line = String::new();
    // Writing to a string cannot fail.
    let _ = write!(line, "{name:<44}{done:>14}{each:>14}{exits:>14}");
    finish(out, &line);
    if !shows.is_empty() {
        finish(out, &format!("    {shows}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::model::Source;

    #[test]
    fn exits_of_one_operation_by_reason() {
        let row = |reason, count| Explained { reason, count, source: Source::Kvm };
        let rows = [row("halt", 2000), row("io", 41), row("mmio", 0)];
        assert_eq!(by_reason(&rows, Some(4003), 2000), "halt 1.00 · not explained 2.00");
        assert_eq!(by_reason(&rows, None, 0), "");
    }
}
