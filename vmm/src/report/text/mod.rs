//! The report for people: one table, at most 100 columns wide.

mod exits;
mod hardware;
mod hot;
mod lines;
mod stood;
mod tour;
pub mod units;

use std::fmt::Write;

use serde_json::Value;

use super::model::{Device, Knob, Phase, Record, Report, Thread};
use lines::{cut, finish, paragraph, prose};
use units::{count, duration, maybe, rate, signed, size};

/// What matters; `all`: whatever there is.
pub fn render(report: &Report, all: bool) -> String {
    let mut out = String::new();
    hot::hot(&mut out, report);
    out.push('\n');
    summary(&mut out, report);
    stood::stood(&mut out, report, all);
    out.push('\n');
    exits::table(&mut out, report, all);
    hardware::hardware(&mut out, report, all);
    if report.phases.len() > 1 {
        out.push('\n');
        phases(&mut out, &report.phases);
    }
    if !report.devices.is_empty() {
        out.push('\n');
        report.devices.iter().for_each(|row| device(&mut out, row));
    }
    if !report.knobs.is_empty() {
        out.push('\n');
        report.knobs.iter().for_each(|row| knob(&mut out, row));
    }
    if !report.records.is_empty() {
        out.push('\n');
        report.records.iter().for_each(|row| record(&mut out, row));
        tour::tour(&mut out, report);
    }
    if report.records_dropped_bytes > 0 {
        let bytes = count(report.records_dropped_bytes);
        prose(&mut out, "result", &format!("{bytes} bytes of results are lost: more than is kept"));
    }
    out
}

fn summary(out: &mut String, report: &Report) {
    let (host, time, memory, halts) = (&report.host, &report.time, &report.memory, &report.halts);
    prose(out, "guest", &format!("{} · status {}", report.guest.why, report.guest.status));
    let mut items = vec![format!("KVM {}", host.kvm)];
    items.extend((host.nested == Some(true)).then(|| "nested".into()));
    items.extend(host.kernel.as_ref().map(|release| format!("Linux {release}")));
    items.extend(host.cpu.clone());
    items.extend(host.cpus.map(|cpus| format!("{cpus} CPUs")));
    paragraph(out, "host", " · ", &items);
    let us = |us: u64| duration(us.saturating_mul(1000));
    let mut items = vec![format!("first entry {}", us(time.exec_to_first_entry_us))];
    items.extend(time.exec_to_ready_us.map(|ready| format!("ready {}", us(ready))));
    items.push(format!("end {} after exec", us(time.wall_us)));
    paragraph(out, "time", " · ", &items);
    let vcpus: Vec<String> = time.vcpu_cpu_us.iter().map(|cpu| us(*cpu)).collect();
    let mut items =
        vec![format!("vCPUs {}", vcpus.join(" + ")), format!("rest of vmm {}", us(time.vmm_cpu_us))];
    if let (Some(periods), Some(times), Some(waited)) =
        (time.cpu_periods, time.cpu_throttled, time.cpu_throttled_us)
    {
        let (times, periods) = (count(times), count(periods));
        items.push(format!("at its limit in {times} of {periods} periods, for {}", us(waited)));
    }
    paragraph(out, "cpu", " · ", &items);
    let mut items: Vec<String> =
        halts.wait_ns.map(|ns| format!("{} asleep", duration(ns))).into_iter().collect();
    items.push(format!("{} halts", maybe(halts.exits)));
    items.push(format!("{} of {} polls in time", maybe(halts.poll_successful), maybe(halts.poll_attempted)));
    items.extend(halts.poll_ns.map(|ns| format!("{} polled", duration(ns))));
    paragraph(out, "idle", " · ", &items);
    let mut items: Vec<String> = Vec::new();
    items.extend((!memory.asked.is_empty()).then(|| format!("asked {}", memory.asked)));
    items.extend(memory.got_bytes.map(|bytes| format!("got {}", size(bytes))));
    items.extend(memory.coverage.map(|part| format!("{:.0} % of it in pages as asked", part * 100.0)));
    let own = memory.vmm_private_bytes.zip(memory.vmm_resident_bytes);
    items.extend(own.map(|(private, all)| format!("vmm itself {}, {} private", size(all), size(private))));
    paragraph(out, "memory", " · ", &items);
}

fn phases(out: &mut String, phases: &[Phase]) {
    let mut line = |name: &str, cells: [&str; 7]| {
        let [wall, exits, per_s, returns, halts, idle, rest] = cells;
        let mut line = String::new();
        // Writing to a string cannot fail.
        let _ = write!(
            line,
            "{:<26}{wall:>10}{exits:>11}{per_s:>10}{returns:>11}{halts:>8}{idle:>10}{rest:>14}",
            cut(name, 25)
        );
        finish(out, &line);
    };
    line("phase", ["wall", "exits", "per s", "returns", "halts", "asleep", "not explained"]);
    for phase in phases {
        let exits = &phase.exits;
        let returns: u64 = exits.userspace.iter().map(|row| row.count).sum();
        line(
            &phase.name,
            [
                &duration(phase.wall_us.saturating_mul(1000)),
                &maybe(exits.total),
                &exits.total.map_or("-".into(), |total| rate(total, phase.wall_us)),
                &count(returns),
                &maybe(phase.halts.exits),
                &phase.halts.wait_ns.map_or("-".into(), duration),
                &exits.unexplained.map_or("-".into(), signed),
            ],
        );
    }
}

fn device(out: &mut String, device: &Device) {
    let mut how =
        format!("{} · {} · interrupts by {}", device.data_path, device.transport, device.interrupts_by);
    if device.faults > 0 {
        how += &format!(" · {} faults of its driver, a reset needed after each", count(device.faults));
    }
    prose(out, &device.name, &how);
    if device.data_path != "userspace" {
        let kicks: Option<u64> = device.queues.iter().map(|queue| queue.kicks).sum();
        let seen: u64 = device.queues.iter().map(|queue| queue.kicks_seen).sum();
        let kicks = match kicks {
            Some(kicks) => {
                format!("{} kicks, as their fds have counted them, {seen} seen here", count(kicks))
            }
            None => format!("{seen} kicks seen here: the other process takes them"),
        };
        let mut items = vec![kicks, "buffers and interrupts pass this process by".to_owned()];
        let looked: u64 = device.queues.iter().filter_map(|queue| queue.looked_us).sum();
        let time = duration(looked.saturating_mul(1000));
        items.extend((looked > 0).then(|| format!("for {time} vhost looked for more before it slept")));
        paragraph(out, "", " · ", &items);
    }
    for (index, queue) in device.queues.iter().enumerate() {
        let (Some(chains), Some(bytes), Some(interrupts)) = (queue.chains, queue.bytes, queue.interrupts)
        else {
            continue;
        };
        let kicks = queue.kicks.unwrap_or(0);
        if chains + kicks == 0 {
            continue;
        }
        let mut items = vec![format!("queue {index}: {} chains", count(chains)), size(bytes)];
        items.push(format!("{} kicks, {} of them exits", count(kicks), count(queue.kick_exits)));
        items.push(format!("{} interrupts", count(interrupts)));
        let polls = queue.polls.zip(queue.polls_found).filter(|(polls, _)| *polls > 0);
        items.extend(
            polls.map(|(polls, found)| format!("{} of {} polls found work", count(found), count(polls))),
        );
        items.extend(
            queue.errors.filter(|errors| *errors > 0).map(|errors| format!("{} errors", count(errors))),
        );
        let waits = queue.throttled.zip(queue.throttled_us).filter(|(waits, _)| *waits > 0);
        items.extend(waits.map(|(waits, us)| {
            format!("{} waits for its rate, {}", count(waits), duration(us.saturating_mul(1000)))
        }));
        let beside = queue.chains_beside.zip(queue.follows).filter(|(_, follows)| *follows > 0);
        items.extend(beside.map(|(chains, follows)| {
            format!("{} on its vCPU's CPU, followed {} times", count(chains), count(follows))
        }));
        paragraph(out, "", " · ", &items);
    }
    let thread = |thread: &Thread| {
        let cpu = thread.cpu_us.map_or("-".into(), |us| duration(us.saturating_mul(1000)));
        format!("thread {} {cpu} of CPU", thread.name)
    };
    paragraph(out, "", " · ", &device.threads.iter().map(thread).collect::<Vec<_>>());
    for row in &device.operations {
        let mut items = vec![format!("{}: {}", row.name, count(row.count)), size(row.bytes)];
        let [p50, p99, max] = [row.ns_p50, row.ns_p99, row.ns_max].map(duration);
        items.push(format!("p50 {p50}, p99 {p99}, max {max}"));
        items.extend((row.errors > 0).then(|| format!("{} errors", count(row.errors))));
        paragraph(out, "", " · ", &items);
    }
}

fn knob(out: &mut String, knob: &Knob) {
    let got = knob.got.as_deref().unwrap_or("-");
    prose(out, knob.flag, &format!("asked {} → got {got}", knob.asked));
    let number = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let evidence: Vec<String> =
        knob.evidence.iter().map(|(path, value)| format!("{path} {}", number(value))).collect();
    paragraph(out, "", " · ", &evidence);
}

fn record(out: &mut String, record: &Record) {
    let part = if record.part == "-" { String::new() } else { format!(" {}", record.part) };
    let mut items = vec![format!("{}{part}: {}", record.workload, record.outcome)];
    if record.ops > 0 {
        items.push(format!("{} ops", count(record.ops)));
        items.push(format!("{} each", duration(record.ns / record.ops)));
    }
    items.extend(record.values.iter().map(|(name, value)| format!("{name} {}", count(*value))));
    paragraph(out, "result", " · ", &items);
}
