//! A machine's report → the rows that are compared: of the workloads' own phases, where it has them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::bundle::{Kind, Load, Row};

/// Rows of a report, `vmm.report/1`.
pub fn rows(report: &Value) -> Vec<Row> {
    let intervals = intervals(report);
    let mut sums: BTreeMap<(Kind, String), (i64, Option<u64>)> = BTreeMap::new();
    let mut add = |kind: Kind, name: String, count: &Value, ns: Option<u64>| {
        let Some(count) = count.as_i64() else { return };
        let sum = sums.entry((kind, name)).or_default();
        sum.0 = sum.0.saturating_add(count);
        sum.1 = match (sum.1, ns) {
            (Some(sum), Some(ns)) => Some(sum.saturating_add(ns)),
            (sum, ns) => sum.or(ns),
        };
    };
    for interval in &intervals {
        let exits = &interval["exits"];
        add(Kind::Total, "exits".into(), &exits["total"], None);
        for part in list(&exits["explained"]) {
            add(Kind::Exit, text(&part["reason"]), &part["count"], None);
        }
        add(Kind::Exit, "not explained".into(), &exits["unexplained"], None);
        for row in list(&exits["hardware"]) {
            add(Kind::Hardware, target(row), &row["count"], row["ns_total"].as_u64());
        }
        for row in list(&exits["userspace"]) {
            add(Kind::Return, target(row), &row["count"], row["ns_total"].as_u64());
        }
        add(Kind::Hardware, "ipi".into(), &exits["ipi"]["count"], None);
        let exit = |name: &str| list(&exits["explained"]).iter().any(|part| part["reason"] == name);
        for (name, count) in entries(&exits["kernel"]).filter(|(name, _)| !exit(name)) {
            add(Kind::Beside, name.clone(), count, None);
        }
        // Halts are exits; beside them, what came of them.
        for (name, count) in
            entries(&interval["halts"]).filter(|(name, _)| !name.ends_with("_ns") && *name != "exits")
        {
            add(Kind::Halt, name.replace('_', " "), count, None);
        }
    }
    for device in list(&report["devices"]) {
        let queues = list(&device["queues"]);
        for queue in queues {
            // A part of them is no sum: some are counted elsewhere.
            let whole = |name: &str| queues.iter().all(|queue| !queue[name].is_null());
            for (name, count) in entries(queue).filter(|(name, _)| *name != "bytes" && whole(name)) {
                add(
                    Kind::Device,
                    format!("{} {}", text(&device["name"]), name.replace('_', " ")),
                    count,
                    None,
                );
            }
        }
    }
    for (name, count) in entries(&report["memory"]).filter(|(name, _)| name.starts_with("pages_")) {
        add(Kind::Pages, format!("mapped {}", name.replace('_', " ")), count, None);
    }
    for record in list(&report["records"]) {
        for (name, value) in entries(&record["values"]).filter(|(name, _)| counts(name)) {
            add(Kind::Guest, name.replace('_', " "), value, None);
        }
    }
    sums.into_iter().map(|((kind, name), (count, ns))| Row { kind, name, count, ns }).collect()
}

/// Rows of a topology's report, `vmm.topology/1`: each machine's under its name, the sum of their exits,
/// and what carries their frames.
pub fn rows_of_topology(report: &Value) -> Vec<Row> {
    let mut all: Vec<Row> = Vec::new();
    let mut add = |kind: Kind, name: String, count: i64, ns: Option<u64>| match all
        .iter_mut()
        .find(|row| row.kind == kind && row.name == name)
    {
        Some(row) => row.count = row.count.saturating_add(count),
        None => all.push(Row { kind, name, count, ns }),
    };
    for machine in list(&report["machines"]) {
        for Row { kind, name, count, ns } in rows(&machine["report"]) {
            match kind {
                Kind::Total => add(kind, name, count, ns),
                _ => add(kind, format!("{} {name}", text(&machine["name"])), count, ns),
            }
        }
    }
    for row in
        list(&report["ledger"]).iter().filter(|row| ["switch", "kernel"].contains(&&*text(&row["who"])))
    {
        for (name, count) in entries(row).filter(|(name, _)| *name != "bytes") {
            if let Some(count) = count.as_i64() {
                add(Kind::Device, format!("{} {name}", text(&row["who"])), count, None);
            }
        }
    }
    for worker in list(&report["switch"]["workers"]) {
        for name in ["sleeps", "busy_us"] {
            if let Some(count) = worker[name].as_i64() {
                add(Kind::Device, format!("switch {}", name.replace('_', " ")), count, None);
            }
        }
    }
    all
}

/// All machines' vCPUs in a row.
pub fn load_of_topology(report: &Value) -> Option<Load> {
    let loads: Vec<Load> =
        list(&report["machines"]).iter().filter_map(|machine| load(&machine["report"])).collect();
    let count = loads.len() as f64;
    let mean = |of: &dyn Fn(&Load) -> Option<f64>| -> Option<f64> {
        loads.iter().map(of).sum::<Option<f64>>().map(|sum| sum / count)
    };
    (!loads.is_empty()).then(|| Load {
        vcpus: loads.iter().flat_map(|load| load.vcpus.clone()).collect(),
        vmm: loads.iter().map(|load| load.vmm).fold(0.0, f64::max),
        asleep: mean(&|load| load.asleep),
        waited: mean(&|load| load.waited),
    })
}

/// Numbers of a record that are counts of a mechanism; the others are its settings, or times.
pub fn counts(name: &str) -> bool {
    !name.ends_with("_ns") && !matches!(name, "bytes" | "rounds" | "threads")
}

/// The phases of the workloads; without them, the whole run.
fn intervals(report: &Value) -> Vec<&Value> {
    let workloads = list(&report["config"]["workloads"]);
    let phases = list(&report["phases"]).iter().filter(|phase| workloads.contains(&phase["name"]));
    let phases: Vec<&Value> = phases.collect();
    if phases.is_empty() { vec![report] } else { phases }
}

/// How busy threads were, over the whole run.
pub fn load(report: &Value) -> Option<Load> {
    let time = &report["time"];
    let wall = time["wall_us"].as_f64().filter(|wall| *wall > 0.0)?;
    let cpu: Vec<f64> = list(&time["vcpu_cpu_us"]).iter().filter_map(Value::as_f64).collect();
    let vcpus = cpu.len().max(1) as f64;
    let waited: Option<f64> = list(&report["vcpus"]).iter().map(|vcpu| vcpu["waited_us"].as_f64()).sum();
    Some(Load {
        vcpus: cpu.iter().map(|us| us / wall).collect(),
        vmm: time["vmm_cpu_us"].as_f64().unwrap_or(0.0) / wall,
        asleep: report["halts"]["wait_ns"].as_f64().map(|ns| ns / 1e3 / wall / vcpus),
        waited: waited.map(|us| us / wall / vcpus),
    })
}

/// `io-write serial.0 THR`.
fn target(row: &Value) -> String {
    let words = [text(&row["reason"]), text(&row["target"])];
    words.iter().filter(|word| !word.is_empty()).cloned().collect::<Vec<_>>().join(" ")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report() -> Value {
        let exits = |halts: u64| {
            json!({
                "total": halts + 5,
                "explained": [{"reason": "halt", "count": halts}],
                "unexplained": 5,
                "kernel": {"halt": halts, "emulated": 7, "io": null},
                "hardware": [{"reason": "VMEXIT_HLT", "count": halts, "ns_total": 10}],
                "userspace": [
                    {"vcpu": 0, "reason": "io-write", "target": "serial.0 THR", "count": 2, "ns_total": 30},
                    {"vcpu": 1, "reason": "io-write", "target": "serial.0 THR", "count": 1, "ns_total": 5},
                ],
            })
        };
        json!({
            "config": {"workloads": ["ipc"]},
            "exits": exits(1000),
            "phases": [{"name": "start", "exits": exits(900)}, {"name": "ipc", "exits": exits(100),
                "halts": {"exits": 100, "wait_ns": 5, "wakeups": 99}}],
            "devices": [{"name": "net0", "queues": [{"kicks": 3, "polls": null}, {"kicks": 4, "polls": 1}]}],
            "memory": {"pages_4k": 12, "asked": "x"},
            "records": [{"values": {"ipis": 50, "late_p99_ns": 9, "bytes": 4}}],
            "time": {"wall_us": 100, "vcpu_cpu_us": [50, 10], "vmm_cpu_us": 5},
            "halts": {"wait_ns": 100_000},
            "vcpus": [{"waited_us": 10}, {"waited_us": 30}],
        })
    }

    #[test]
    fn the_phase_of_the_workload_counts() {
        let rows = rows(&report());
        let row = |kind, name: &str| {
            let row = rows.iter().find(|row| row.kind == kind && row.name == name);
            row.map(|row| (row.count, row.ns))
        };
        assert_eq!(row(Kind::Total, "exits"), Some((105, None)));
        assert_eq!(row(Kind::Exit, "halt"), Some((100, None)));
        assert_eq!(row(Kind::Beside, "halt"), None, "it is an exit already");
        assert_eq!(row(Kind::Beside, "emulated"), Some((7, None)));
        assert_eq!(row(Kind::Beside, "io"), None, "not counted is no zero");
        assert_eq!(row(Kind::Return, "io-write serial.0 THR"), Some((3, Some(35))));
        assert_eq!(row(Kind::Hardware, "VMEXIT_HLT"), Some((100, Some(10))));
        assert_eq!((row(Kind::Halt, "wakeups"), row(Kind::Halt, "wait ns")), (Some((99, None)), None));
        assert_eq!(row(Kind::Device, "net0 kicks"), Some((7, None)));
        assert_eq!(row(Kind::Device, "net0 polls"), None, "one of its queues is counted elsewhere");
        assert_eq!((row(Kind::Guest, "ipis"), row(Kind::Guest, "bytes")), (Some((50, None)), None));
    }

    #[test]
    fn a_topology_has_all_of_its_machines_and_what_is_between() {
        let whole = json!({
            "machines": [{"name": "left", "report": report()}, {"name": "right", "report": report()}],
            "ledger": [{"who": "left", "kicks": 7}, {"who": "switch", "kicks": 2, "packets": 9, "bytes": 1},
                {"who": "switch", "kicks": 3, "dropped": 4}],
            "switch": {"workers": [{"sleeps": 5, "busy_us": 6}]},
        });
        let rows = rows_of_topology(&whole);
        let row = |kind, name: &str| {
            rows.iter().find(|row| row.kind == kind && row.name == name).map(|row| row.count)
        };
        assert_eq!(row(Kind::Total, "exits"), Some(210));
        assert_eq!((row(Kind::Exit, "left halt"), row(Kind::Exit, "right halt")), (Some(100), Some(100)));
        assert_eq!(
            (row(Kind::Device, "switch kicks"), row(Kind::Device, "switch dropped")),
            (Some(5), Some(4))
        );
        assert_eq!((row(Kind::Device, "switch sleeps"), row(Kind::Device, "switch bytes")), (Some(5), None));
        let load = load_of_topology(&whole).unwrap();
        assert_eq!((load.vcpus.len(), load.asleep), (4, Some(0.5)));
    }

    #[test]
    fn without_phases_the_whole_run() {
        let mut report = report();
        report["phases"] = json!([]);
        let halts = rows(&report).into_iter().find(|row| row.name == "halt").map(|row| row.count);
        assert_eq!(halts, Some(1000));
        assert_eq!(rows(&Value::Null), []);
    }

    #[test]
    fn shares_of_the_time_that_it_took() {
        let load = load(&report()).unwrap();
        assert_eq!((load.vcpus, load.vmm), (vec![0.5, 0.1], 0.05));
        assert_eq!((load.asleep, load.waited), (Some(0.5), Some(0.2)));
        assert_eq!(super::load(&Value::Null), None);
    }
}
