//! What is measured: times of the workloads' records, of the machine, and what a user's pattern finds
//! on the console.

use std::collections::BTreeMap;
use std::str::FromStr;

use abi::record::{Outcome, Record};
use regex_lite::Regex;
use serde_json::Value;

use super::bundle::{Better, Metric, Unit};

/// `--metric NAME=REGEX`: the first group, or else the whole match, is a number.
#[derive(Clone, Debug)]
pub struct Pattern {
    pub name: String,
    regex: Regex,
}

#[derive(Debug, thiserror::Error)]
pub enum PatternError {
    #[error("not of the form NAME=REGEX")]
    Form,
    #[error("{0}")]
    Regex(#[from] regex_lite::Error),
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Pattern, PatternError> {
        match text.split_once('=') {
            None | Some(("", _) | (_, "")) => Err(PatternError::Form),
            Some((name, regex)) => Ok(Pattern { name: name.to_owned(), regex: Regex::new(regex)? }),
        }
    }
}

impl Pattern {
    /// The last number that it finds: what a benchmark says at its end is its result.
    pub fn find(&self, console: &str) -> Option<f64> {
        let number =
            |text: &str| text.replace(',', "").parse::<f64>().ok().filter(|number| number.is_finite());
        let found = self
            .regex
            .captures_iter(console)
            .filter_map(|captures| number(captures.get(1).or_else(|| captures.get(0))?.as_str()));
        found.last()
    }

    pub fn metric(&self) -> Metric {
        Metric { name: self.name.clone(), unit: Unit::Number, better: Better::Unknown }
    }
}

/// What one run has measured, in order.
#[derive(Debug, Default, PartialEq)]
pub struct Measured {
    pub metrics: Vec<(Metric, f64)>,
    pub ops: u64,
    /// What a workload could not do, or did wrong.
    pub failed: Option<String>,
}

impl Measured {
    /// From a machine's report.
    pub fn of_report(report: &Value) -> Measured {
        let mut measured = Measured::default();
        for record in report["records"].as_array().into_iter().flatten() {
            let text = |key: &str| record[key].as_str().unwrap_or_default();
            let number = |key: &str| record[key].as_u64().unwrap_or(0);
            let values = record["values"].as_object().into_iter().flatten();
            let values = values.filter_map(|(name, value)| Some((name.as_str(), value.as_u64()?)));
            measured.add(
                text("workload"),
                text("part"),
                text("outcome"),
                (number("ops"), number("ns")),
                values,
            );
        }
        let time = &report["time"];
        let us = |value: &Value| value.as_f64().map(|us| us * 1e3);
        let vcpus: f64 = time["vcpu_cpu_us"].as_array().into_iter().flatten().filter_map(us).sum();
        let lower = |name: &str| Metric { name: name.into(), unit: Unit::Ns, better: Better::Lower };
        let machine = [
            ("ready after", us(&time["exec_to_ready_us"])),
            ("wall time", us(&time["wall_us"])),
            ("CPU time", us(&time["vmm_cpu_us"]).map(|vmm| vmm + vcpus)),
        ];
        measured.metrics.extend(machine.into_iter().filter_map(|(name, ns)| Some((lower(name), ns?))));
        measured
    }

    /// From a topology's report: first what it measures, then each machine's own.
    pub fn of_topology(report: &Value) -> Measured {
        let mut measured = Measured::default();
        let whole = &report["measured"];
        if let Some(ns) = whole["ns_per_op"].as_f64() {
            let workload = whole["workload"].as_str().unwrap_or_default();
            let name = format!("{} through", workload.split(',').next().unwrap_or(workload));
            measured.put(Metric { name, unit: Unit::NsPerOp, better: Better::Lower }, ns);
        }
        measured.ops = whole["ops"].as_u64().unwrap_or(0);
        for machine in report["machines"].as_array().into_iter().flatten() {
            let name = machine["name"].as_str().unwrap_or_default();
            let own = Measured::of_report(&machine["report"]);
            measured.failed = measured.failed.or_else(|| Some(format!("{name}: {}", own.failed?)));
            if whole.is_null() {
                measured.ops = measured.ops.saturating_add(own.ops);
            }
            for (metric, value) in own.metrics {
                measured.put(Metric { name: format!("{name}: {}", metric.name), ..metric }, value);
            }
        }
        measured
    }

    /// From the output of `vmm workload`, with the counts of its records.
    pub fn of_native(output: &str) -> (Measured, BTreeMap<String, u64>) {
        let mut measured = Measured::default();
        let mut counts = BTreeMap::new();
        for record in output.lines().filter_map(Record::decode) {
            let outcome = match record.outcome {
                Outcome::Ok => "ok".to_owned(),
                Outcome::Unavailable(why) => format!("unavailable:{why}"),
                Outcome::Failed(why) => format!("failed:{why}"),
            };
            let values = record.values().iter().copied();
            measured.add(record.workload, record.part, &outcome, (record.ops, record.ns), values.clone());
            for (name, value) in values.filter(|(name, _)| super::ledger::counts(name)) {
                *counts.entry(name.replace('_', " ")).or_insert(0) += value;
            }
        }
        (measured, counts)
    }

    fn add<'r>(
        &mut self,
        workload: &str,
        part: &str,
        outcome: &str,
        (ops, ns): (u64, u64),
        values: impl Iterator<Item = (&'r str, u64)>,
    ) {
        // Its keys may differ from setting to setting.
        let mut name = workload.split(',').next().unwrap_or(workload).to_owned();
        if part != "-" {
            name = format!("{name} {part}");
        }
        if outcome != "ok" {
            let why = format!("{name}: {}", outcome.replacen(':', ": ", 1).replace('-', " "));
            self.failed.get_or_insert(why);
            return;
        }
        self.ops = self.ops.saturating_add(ops);
        let metric = |name: String, unit| Metric { name, unit, better: Better::Lower };
        let times = values.filter(|(name, _)| name.ends_with("_ns"));
        let times: Vec<(Metric, f64)> = times
            .map(|(value, ns)| {
                let name = format!("{name} {}", value.trim_end_matches("_ns").replace('_', " "));
                (metric(name, Unit::Ns), ns as f64)
            })
            .collect();
        // A thread that wakes by the clock takes the same time for it everywhere: what counts is how late.
        let paced = times.iter().any(|(metric, _)| metric.name.contains(" late "));
        if ops > 0 && !paced {
            self.put(metric(name, Unit::NsPerOp), ns as f64 / ops as f64);
        }
        for (metric, ns) in times {
            self.put(metric, ns);
        }
    }

    /// The same workload a second time is a metric of its own.
    fn put(&mut self, mut metric: Metric, value: f64) {
        let name = metric.name.clone();
        let mut number = 1;
        while self.metrics.iter().any(|(known, _)| known.name == metric.name) {
            number += 1;
            metric.name = format!("{name} #{number}");
        }
        self.metrics.push((metric, value));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pattern_finds_the_last_number() {
        let pattern: Pattern = "req=Requests per second: +([0-9.,]+)".parse().unwrap();
        let console = "Requests per second: 12.5 [#/sec]\nRequests per second:   1,413.25 [#/sec]\n";
        assert_eq!(pattern.find(console), Some(1413.25));
        assert_eq!(pattern.find("Requests per second: ."), None);
        let whole: Pattern = "n=[0-9]+".parse().unwrap();
        assert_eq!(whole.find("a 7 b 8"), Some(8.0));
        for text in ["req", "=x", "req=", "req=("] {
            assert!(text.parse::<Pattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn records_are_metrics_by_the_workloads_name() {
        let record = |workload: &str, ops: u64, values: Value| json!({"workload": workload, "part": "-", "outcome": "ok", "ops": ops, "ns": 5000, "values": values});
        let mut failing = record("null", 0, json!({}));
        failing["outcome"] = "unavailable:syscall-stays-in-ring-3-here".into();
        let report = json!({
            "records": [record("ipc,items=10", 10, json!({"halts": 3})), record("ipc,items=5", 5, json!({})),
                record("jitter", 9, json!({"late_p99_ns": 77})), failing],
            "time": {"wall_us": 9, "vcpu_cpu_us": [1, 2], "vmm_cpu_us": 3, "exec_to_ready_us": null},
        });
        let measured = Measured::of_report(&report);
        let values: Vec<(&str, f64)> =
            measured.metrics.iter().map(|(metric, value)| (metric.name.as_str(), *value)).collect();
        assert_eq!(
            values,
            [
                ("ipc", 500.0),
                ("ipc #2", 1000.0),
                ("jitter late p99", 77.0),
                ("wall time", 9000.0),
                ("CPU time", 6000.0),
            ]
        );
        assert_eq!(measured.ops, 24);
        assert_eq!(measured.failed.as_deref(), Some("null: unavailable: syscall stays in ring 3 here"));
    }

    #[test]
    fn a_topology_is_measured_as_a_whole_first() {
        let own = json!({"records": [{"workload": "udp", "part": "-", "outcome": "ok", "ops": 9, "ns": 90, "values": {}}],
            "time": {"wall_us": 7}});
        let report = json!({
            "measured": {"workload": "udp,role=sink", "ops": 50, "ns_per_op": 12.5},
            "machines": [{"name": "right", "report": own}, {"name": "left", "report": {"records": [{"workload": "udp",
                "part": "-", "outcome": "unavailable:nobody-answers"}]}}],
        });
        let measured = Measured::of_topology(&report);
        let values: Vec<(&str, f64)> =
            measured.metrics.iter().map(|(metric, value)| (metric.name.as_str(), *value)).collect();
        assert_eq!(values, [("udp through", 12.5), ("right: udp", 10.0), ("right: wall time", 7000.0)]);
        assert_eq!(
            (measured.ops, measured.failed.as_deref()),
            (50, Some("left: udp: unavailable: nobody answers"))
        );
    }

    #[test]
    fn native_output_is_the_same_records() {
        let (measured, counts) =
            Measured::of_native("ipc,items=4 - ok ops=4 ns=400 slept=3 late_p50_ns=5\nnoise\n");
        assert_eq!(measured.metrics[0].1, 5.0);
        assert_eq!((measured.ops, counts), (4, [("slept".to_owned(), 3)].into()));
    }
}
