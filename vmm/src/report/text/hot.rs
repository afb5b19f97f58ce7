//! What the report opens with: where the time went, in words.

use super::super::model::{Hot, Report};
use super::lines::{paragraph, prose};
use super::units::{count, duration};

/// Appends the list, and what the machine waited for.
pub fn hot(out: &mut String, report: &Report) {
    // What rounds to nothing doesn't matter.
    for (number, row) in report.hot.iter().filter(|row| row.share >= 0.005).enumerate() {
        prose(out, if number == 0 { "hot" } else { "" }, &words(row));
    }
    let waits = &report.waits;
    let part = |ns: u64| format!("{:.0} %", ns as f64 * 100.0 / waits.vcpu_ns.max(1) as f64);
    let mut items = Vec::new();
    items.extend(waits.asleep_ns.map(|ns| format!("asleep {} of its vCPUs' time", part(ns))));
    let mut some = |ns: Option<u64>, what: &str| {
        items.extend(
            ns.filter(|ns| ns.saturating_mul(100) >= waits.vcpu_ns).map(|ns| format!("{what} {}", part(ns))),
        );
    };
    some(waits.polled_ns, "polled before sleep");
    some(waits.no_cpu_ns, "ready without a CPU");
    for device in &waits.devices {
        let (operations, each) = (count(device.count), duration(device.ns_p50));
        items.push(format!("{}: {operations} × {}, typically {each}", device.device, device.operation));
    }
    if waits.devices.is_empty() && waits.asleep_ns.is_some_and(|ns| ns > 0) {
        items.push("no device had requests: timers, other vCPUs or input".into());
    }
    paragraph(out, "waited", " · ", &items);
}

/// `serial.0 THR write: 61 % of exit time, 1,234 × 2.10 µs; quiet`
fn words(row: &Hot) -> String {
    let way = row.reason.rsplit([' ', '-']).next().filter(|way| ["read", "write"].contains(way));
    let what = match (&row.target, way) {
        (None, _) => row.reason.clone(),
        (Some(target), _) if row.reason.contains("MSR") => format!("{} {target}", row.reason),
        (Some(target), Some(way)) => format!("{target} {way}"),
        (Some(target), None) => format!("{} {target}", row.reason),
    };
    let of = if row.by == "hardware" { "exit time" } else { "the time in vmm" };
    let mean = duration(row.ns_total / row.count.max(1));
    let advice = row.advice.map_or(String::new(), |advice| format!("; {advice}"));
    format!("{what}: {:.0} % of {of}, {} × {mean}{advice}", row.share * 100.0, count(row.count))
}
