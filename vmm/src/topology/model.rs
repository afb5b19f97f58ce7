//! What came of a topology, as data: each machine's own report, the switch's, and one ledger of both.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::file::{By, Measure, Scene};
use crate::compare::ledger;
use crate::status::Status;

/// The name of this layout. A key may be added under it; none is removed or changes its meaning.
pub const SCHEMA: &str = "vmm.topology/1";

/// What is left when all have ended.
pub struct Outcome {
    pub wall: Duration,
    /// Exit status and report of each.
    pub machines: Vec<(u8, Option<Value>)>,
    pub switch: Option<Value>,
    pub interfaces: Vec<Interface>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub schema: &'static str,
    /// The exit status of this program.
    pub status: u8,
    pub topology: String,
    pub title: String,
    pub path: PathReport,
    pub wall_us: u64,
    pub measured: Option<Measured>,
    pub ledger: Vec<Row>,
    /// Sums of the ledger for one operation that was measured.
    pub per_op: Option<PerOp>,
    pub machines: Vec<Machine>,
    /// `vmm.switch/1`.
    pub switch: Option<Value>,
    pub interfaces: Vec<Interface>,
}

#[derive(Clone, Debug, Serialize)]
pub struct PathReport {
    pub name: String,
    pub by: By,
    pub queues: u16,
    pub vhost: bool,
}

#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    pub name: String,
    pub status: u8,
    pub serves: bool,
    /// `vmm.report/1`; `null` where it has written none.
    pub report: Option<Value>,
}

/// The operations of the whole, at one machine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    pub machine: String,
    pub workload: String,
    pub count: String,
    pub ops: u64,
    pub ns: u64,
    pub ns_per_op: Option<f64>,
}

/// One queue, as whoever serves it has counted it; `null` where nobody here can.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Row {
    /// A machine, `switch` or `kernel`.
    pub who: String,
    /// Its device, or the port of a machine.
    pub at: String,
    /// As the machine names it: `receive 0`, `send 0`; empty: all of them.
    pub queue: String,
    pub packets: Option<u64>,
    pub bytes: Option<u64>,
    pub kicks: Option<u64>,
    pub interrupts: Option<u64>,
    /// Packets to a batch, where batches are counted.
    pub per_batch: Option<f64>,
    pub dropped: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PerOp {
    /// Of the machines, while their workloads ran.
    pub exits: Option<f64>,
    pub kicks: Option<f64>,
    pub interrupts: Option<f64>,
    pub dropped: Option<f64>,
}

/// A tap, as the kernel has counted it.
#[derive(Clone, Debug, Serialize)]
pub struct Interface {
    pub name: String,
    pub machine: String,
    pub from_packets: Option<u64>,
    pub from_bytes: Option<u64>,
    pub from_dropped: Option<u64>,
    pub to_packets: Option<u64>,
    pub to_bytes: Option<u64>,
    pub to_dropped: Option<u64>,
}

impl Report {
    pub fn new(scene: &Scene, outcome: Outcome, status: Status) -> Report {
        let named = scene.machines.iter().zip(outcome.machines);
        let machines: Vec<Machine> = named
            .map(|(machine, (status, report))| Machine {
                name: machine.name.clone(),
                status,
                serves: machine.serves,
                report,
            })
            .collect();
        let measured = scene.measure.as_ref().and_then(|measure| measured(measure, &machines));
        let ledger = rows(&machines, outcome.switch.as_ref(), &outcome.interfaces);
        let ops = measured.as_ref().map(|measured| measured.ops).filter(|ops| *ops > 0);
        let path = &scene.path;
        Report {
            schema: SCHEMA,
            status: status.code(),
            topology: scene.name.clone(),
            title: scene.title.clone(),
            path: PathReport { name: path.name.clone(), by: path.by, queues: path.queues, vhost: path.vhost },
            wall_us: outcome.wall.as_micros() as u64,
            per_op: ops.map(|ops| per_op(&machines, &ledger, ops)),
            measured,
            ledger,
            machines,
            switch: outcome.switch,
            interfaces: outcome.interfaces,
        }
    }
}

fn measured(measure: &Measure, machines: &[Machine]) -> Option<Measured> {
    let machine = machines.iter().find(|machine| machine.name == measure.machine)?;
    let record = list(&machine.report.as_ref()?["records"]).first()?;
    let ops = match measure.count.as_str() {
        "ops" => &record["ops"],
        value => &record["values"][value],
    };
    let (ops, ns) = (ops.as_u64()?, record["ns"].as_u64()?);
    Some(Measured {
        machine: measure.machine.clone(),
        workload: text(&record["workload"]),
        count: measure.count.clone(),
        ops,
        ns,
        ns_per_op: (ops > 0).then(|| ns as f64 / ops as f64),
    })
}

/// Every queue of every machine's cards, then the ports of what is between them.
fn rows(machines: &[Machine], switch: Option<&Value>, interfaces: &[Interface]) -> Vec<Row> {
    let mut rows = Vec::new();
    for machine in machines {
        let Some(report) = &machine.report else { continue };
        for device in list(&report["devices"]).iter().filter(|device| device["kind"] == "net") {
            let queues = list(&device["queues"]);
            // The last, of an odd number, is for control.
            for (index, queue) in queues.iter().take(queues.len() & !1).enumerate() {
                rows.push(Row {
                    who: machine.name.clone(),
                    at: text(&device["name"]),
                    queue: queue_name(index),
                    packets: queue["chains"].as_u64(),
                    bytes: queue["bytes"].as_u64(),
                    kicks: queue["kicks"].as_u64(),
                    interrupts: queue["interrupts"].as_u64(),
                    ..Row::default()
                });
            }
        }
        if let Some((kicks, interrupts)) = own_counts(report) {
            let (who, at) = (machine.name.clone(), "its guest".into());
            rows.push(Row { who, at, kicks, interrupts, ..Row::default() });
        }
    }
    for port in switch.map_or(&[][..], |switch| list(&switch["ports"])) {
        let at = text(&port["socket"]);
        let at = at.rsplit('/').next().unwrap_or_default();
        for queue in list(&port["queues"]) {
            let batches: u64 = list(&queue["batches"]).iter().filter_map(Value::as_u64).sum();
            let packets = queue["packets"].as_u64();
            rows.push(Row {
                who: "switch".into(),
                at: at.into(),
                queue: queue["index"].as_u64().map_or(String::new(), |index| queue_name(index as usize)),
                packets,
                bytes: queue["bytes"].as_u64(),
                kicks: queue["kicks"].as_u64(),
                interrupts: queue["interrupts"].as_u64(),
                per_batch: packets.filter(|_| batches > 0).map(|packets| packets as f64 / batches as f64),
                dropped: Some(values(&queue["drops"]).sum()),
            });
        }
    }
    for tap in interfaces {
        let row = |queue: &str, packets, bytes, dropped| Row {
            who: "kernel".into(),
            at: tap.machine.clone(),
            queue: queue.into(),
            packets,
            bytes,
            dropped,
            ..Row::default()
        };
        rows.push(row("receive", tap.to_packets, tap.to_bytes, tap.to_dropped));
        rows.push(row("send", tap.from_packets, tap.from_bytes, tap.from_dropped));
    }
    rows
}

/// Kicks and interrupts as the built-in kernel has counted them while its workloads ran.
fn own_counts(report: &Value) -> Option<(Option<u64>, Option<u64>)> {
    let sum = |name: &str| {
        list(&report["records"])
            .iter()
            .filter_map(|record| record["values"][name].as_u64())
            .reduce(|a, b| a + b)
    };
    let counts = (sum("kicks"), sum("interrupts"));
    (counts != (None, None)).then_some(counts)
}

fn queue_name(index: usize) -> String {
    format!("{} {}", if index.is_multiple_of(2) { "receive" } else { "send" }, index / 2)
}

fn per_op(machines: &[Machine], ledger: &[Row], ops: u64) -> PerOp {
    // A guest that counts for itself leaves out what set its card up; else whoever serves its queues counts.
    let own = |row: &&Row| row.queue.is_empty();
    let all_own = ledger.iter().filter(own).count() == machines.len();
    let sum = |count: &dyn Fn(&Row) -> Option<u64>, own_alone: bool| {
        let rows = ledger.iter().filter(|row| own(row) == own_alone);
        rows.filter_map(count).reduce(|a, b| a + b).map(|sum| sum as f64 / ops as f64)
    };
    let total = |machine: &Machine| -> Option<i64> {
        let rows = ledger::rows(machine.report.as_ref()?);
        rows.iter().find(|row| row.kind == crate::compare::bundle::Kind::Total).map(|row| row.count)
    };
    let exits: Option<i64> = machines.iter().map(total).sum();
    PerOp {
        exits: exits.map(|exits| exits as f64 / ops as f64),
        kicks: sum(&|row| row.kicks, all_own),
        interrupts: sum(&|row| row.interrupts, all_own),
        dropped: sum(&|row| row.dropped, false),
    }
}

fn values(object: &Value) -> impl Iterator<Item = u64> {
    object.as_object().into_iter().flatten().filter_map(|(_, value)| value.as_u64())
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
pub mod tests {
    use serde_json::json;

    use super::*;

    /// A report of two machines at a switch.
    pub fn sample() -> Report {
        let machine = |name: &str, ops: u64, exits: u64| Machine {
            name: name.into(),
            status: 0,
            serves: false,
            report: Some(json!({
                "guest": {"why": "the guest ended with status 0"},
                "exits": {"total": exits},
                "records": [{"workload": "udp", "part": "-", "outcome": "ok", "ops": ops, "ns": 5000, "values": {"returned": 50}}],
                "devices": [{"kind": "net", "name": "net.0", "queues": [
                    {"kicks": null, "chains": null, "bytes": null, "interrupts": null},
                    {"kicks": null, "chains": null, "bytes": null, "interrupts": null}, {"kicks": 0}]}],
            })),
        };
        let switch = json!({"ports": [{"socket": "/tmp/x/right", "queues": [
            {"index": 0, "packets": 64, "bytes": 6400, "kicks": 1, "interrupts": 2, "batches": [0, 0, 0, 2],
             "drops": {"no_buffer": 36}}]}]});
        let machines = vec![machine("right", 64, 10), machine("left", 100, 6)];
        let measure = Measure { machine: "right".into(), count: "ops".into() };
        let ledger = rows(&machines, Some(&switch), &[]);
        Report {
            schema: SCHEMA,
            status: 0,
            topology: "udp".into(),
            title: "datagrams".into(),
            path: PathReport { name: "switch".into(), by: By::Switch, queues: 1, vhost: false },
            wall_us: 1000,
            measured: measured(&measure, &machines),
            per_op: Some(per_op(&machines, &ledger, 64)),
            ledger,
            machines,
            switch: Some(switch),
            interfaces: Vec::new(),
        }
    }

    #[test]
    fn one_ledger_for_machines_and_switch() {
        let report = sample();
        let names: Vec<String> =
            report.ledger.iter().map(|row| format!("{} {} {}", row.who, row.at, row.queue)).collect();
        assert_eq!(
            names,
            [
                "right net.0 receive 0",
                "right net.0 send 0",
                "left net.0 receive 0",
                "left net.0 send 0",
                "switch right receive 0"
            ]
        );
        let port = &report.ledger[4];
        assert_eq!((port.packets, port.per_batch, port.dropped), (Some(64), Some(32.0), Some(36)));
        let per_op = report.per_op.unwrap();
        assert_eq!((per_op.exits, per_op.interrupts), (Some(0.25), Some(2.0 / 64.0)));
        assert_eq!(report.measured.unwrap().ns_per_op, Some(5000.0 / 64.0));
    }

    #[test]
    fn any_value_of_the_first_record_can_be_measured() {
        let machines = sample().machines;
        let of = |machine: &str, count: &str| {
            measured(&Measure { machine: machine.into(), count: count.into() }, &machines)
        };
        assert_eq!(of("left", "returned").unwrap().ns_per_op, Some(100.0));
        assert_eq!(of("left", "nonesuch"), None);
    }
}
