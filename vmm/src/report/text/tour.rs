//! The tour, stop by stop: what was done, what one of it cost, how many exits it took, and what that
//! shows.

use std::fmt::Write;

use abi::tour::{NEXT, TOUR};

use super::lines::{finish, prose};
use super::units::{count, duration};
use crate::report::model::{Record, Report};

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
    }
    out.push('\n');
    for (number, command) in NEXT.iter().enumerate() {
        prose(out, if number == 0 { "try next" } else { "" }, command);
    }
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
