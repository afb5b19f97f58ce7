//! What matters most: the reasons and targets that took most time, and what the machine waited for.

use std::collections::BTreeMap;

use super::advice;
use super::facts::Facts;
use super::model::{DeviceWait, Exits, Halts, Hot, Waits};

/// Rows of the list.
const MOST: usize = 5;

/// The reasons that took most time: of all exits where they were traced, of those to this process else.
pub fn hot(exits: &Exits) -> Vec<Hot> {
    let (by, rows): (_, Vec<_>) = match &exits.hardware {
        Some(rows) => {
            let row = |row: &'_ super::model::HardwareExit| {
                (row.reason.clone(), row.target.clone(), row.count, row.ns_total)
            };
            ("hardware", rows.iter().map(row).collect())
        }
        None => {
            let row = |row: &'_ super::model::UserspaceExit| {
                (row.reason.clone(), row.target.clone(), row.count, row.ns_total)
            };
            ("userspace", exits.userspace.iter().map(row).collect())
        }
    };
    let mut sums: BTreeMap<(String, Option<String>), (u64, u64)> = BTreeMap::new();
    for (reason, target, count, ns) in rows {
        let sum = sums.entry((reason, target)).or_default();
        *sum = (sum.0 + count, sum.1.saturating_add(ns));
    }
    let whole: u64 = sums.values().map(|(_, ns)| *ns).fold(0, u64::saturating_add);
    let row = |((reason, target), (count, ns_total)): ((String, Option<String>), _)| Hot {
        advice: advice::of(&reason, target.as_deref()),
        share: (ns_total as f64 / whole.max(1) as f64 * 1e4).round() / 1e4,
        by,
        reason,
        target,
        count,
        ns_total,
    };
    let mut rows: Vec<Hot> = sums.into_iter().filter(|(_, (_, ns))| *ns > 0).map(row).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.ns_total));
    rows.truncate(MOST);
    rows
}

/// Where the time of the vCPUs went that was neither the guest's nor an exit's.
pub fn waits(facts: &Facts, halts: &Halts) -> Waits {
    let span = facts.rate.ns(facts.ended.saturating_sub(facts.started));
    let no_cpu = facts.vcpus.iter().map(|vcpu| vcpu.usage.waited_ns).sum::<Option<u64>>();
    let device = |counts: &devices::virtio::front::DeviceCounts| {
        let busiest = counts.operations.iter().max_by_key(|one| one.count.saturating_mul(one.ns_p50))?;
        (busiest.count > 0).then(|| DeviceWait {
            device: counts.name.clone(),
            operation: busiest.name,
            count: busiest.count,
            ns_p50: busiest.ns_p50,
        })
    };
    Waits {
        vcpu_ns: span.saturating_mul(facts.vcpus.len() as u64),
        asleep_ns: halts.wait_ns,
        polled_ns: halts.poll_ns,
        no_cpu_ns: no_cpu,
        devices: facts.devices.iter().filter_map(device).collect(),
    }
}
