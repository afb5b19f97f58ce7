//! What came of a topology, for people.

use std::fmt::Write;

use super::file::{By, Topology};
use super::model::{Measured, PerOp, Report, Row};
use crate::compare::words::figures;
use crate::report::text::units::{count, duration, maybe, rate, size};

/// The machines, what was measured, and the ledger of all queues.
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    let path = &report.path;
    _ = writeln!(
        text,
        "topology   {} · {} · by {}{} · {}",
        report.topology,
        report.title,
        path.name,
        if path.queues > 1 { format!(" · {} queues", path.queues) } else { String::new() },
        duration(report.wall_us * 1000)
    );
    for machine in &report.machines {
        let known = machine.report.as_ref();
        let why = known.and_then(|report| report["guest"]["why"].as_str()).unwrap_or("it wrote no report");
        let exits = known.and_then(|report| report["exits"]["total"].as_u64());
        let exits = exits.map_or(String::new(), |exits| format!(" · {} exits", count(exits)));
        _ = writeln!(text, "machine    {}: {why} · status {}{exits}", machine.name, machine.status);
    }
    if let Some(measured) = &report.measured {
        line_of(&mut text, measured);
    }
    if let Some(per_op) = &report.per_op {
        parts(&mut text, per_op);
    }
    _ = writeln!(
        text,
        "\nledger   at         queue           packets        bytes      kicks interrupts  per batch    dropped"
    );
    // A queue that another process serves is counted there.
    let known = |row: &&Row| [row.packets, row.kicks, row.interrupts].iter().any(Option::is_some);
    report.ledger.iter().filter(known).for_each(|row| queue(&mut text, row));
    if path.by == By::Command {
        text.push_str("         what another program carries, it alone has counted\n");
    }
    text
}

fn line_of(text: &mut String, measured: &Measured) {
    let Measured { machine, workload, count: what, ops, ns, ns_per_op } = measured;
    let each = ns_per_op.map_or(String::new(), |ns| format!(" · {} each", duration(ns.round() as u64)));
    let per_second = rate(*ops, ns / 1000);
    _ = writeln!(
        text,
        "measured   at {machine}: {} {what} · {per_second} a second{each} · {workload}",
        count(*ops)
    );
}

fn parts(text: &mut String, per_op: &PerOp) {
    let part = |name: &str, value: Option<f64>| {
        value.map_or(format!("{name} not counted"), |value| format!("{} {name}", figures(value)))
    };
    let all = [
        part("exits", per_op.exits),
        part("kicks", per_op.kicks),
        part("interrupts", per_op.interrupts),
        part("dropped", per_op.dropped),
    ];
    _ = writeln!(text, "for each   {}", all.join(" · "));
}

fn queue(text: &mut String, row: &Row) {
    let per_batch = row.per_batch.map_or("-".into(), |mean| format!("{mean:.1}"));
    _ = writeln!(
        text,
        "{:<8} {:<10} {:<10}{:>13}{:>13}{:>11}{:>11}{per_batch:>11}{:>11}",
        row.who,
        row.at,
        row.queue,
        maybe(row.packets),
        row.bytes.map_or("-".into(), size),
        maybe(row.kicks),
        maybe(row.interrupts),
        maybe(row.dropped)
    );
}

/// Those that there are, with their paths and values.
pub fn list(topologies: &[Topology]) -> String {
    let mut text = String::from("Topologies, as vmm topology NAME and vmm compare --topology NAME\n");
    for topology in topologies {
        let paths: Vec<&str> = topology.paths.iter().map(|path| path.name.as_str()).collect();
        let values: Vec<String> =
            topology.values.iter().map(|(key, value)| format!("{key}={value}")).collect();
        _ = writeln!(text, "\n{}: {}", topology.name, topology.title);
        _ = writeln!(text, "    --path  {}", paths.join(", "));
        if !values.is_empty() {
            _ = writeln!(text, "    --set   {}", values.join(", "));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::model::tests::sample;
    use super::*;

    #[test]
    fn one_table() {
        let text = render(&sample());
        for words in [
            "topology   udp · datagrams · by switch · 1.00 ms",
            "machine    right: the guest ended with status 0 · status 0 · 10 exits",
            "measured   at right: 64 ops · 12,800,000 a second · 78 ns each · udp",
            "for each   0.25 exits · 0.0156 kicks · 0.0312 interrupts · 0.5625 dropped",
            "switch   right      receive 0            64     6.25 KiB          1          2       32.0         36",
        ] {
            assert!(text.contains(words), "no {words:?} in\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    }
}
