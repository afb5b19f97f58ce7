//! What a switch did, for people.

use std::fmt::Write;

use devices::switch::SwitchCounts;

use super::model::{Queue, Report};
use crate::report::text::units::{count, duration, rate, share, size};

/// The report: its threads, then each port with its queues.
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    let wall = report.wall_us;
    _ = writeln!(text, "switch     {} ports · {}", report.ports.len(), duration(wall * 1000));
    for (number, worker) in report.workers.iter().enumerate() {
        let place = worker.cpu.map_or("on any CPU".into(), |cpu| format!("on CPU {cpu}"));
        _ = writeln!(
            text,
            "worker {number:<3} {place} · busy {} ({}) · {} rounds, {} of them empty · slept {} times",
            duration(worker.busy_us * 1000),
            share(worker.busy_us, wall),
            count(worker.rounds),
            count(worker.polls_empty),
            count(worker.sleeps)
        );
        if worker.naps > 0 {
            let naps = count(worker.naps);
            _ = writeln!(
                text,
                "           others want its CPU: {naps} naps; with a CPU of its own it has none"
            );
        }
    }
    for port in &report.ports {
        let now = if port.connected { "connected" } else { "no peer" };
        _ = writeln!(
            text,
            "\nport       {} · {now} · {} so far · {} addresses · features {}",
            port.socket,
            plural(port.connections, "peer"),
            port.addresses,
            port.features
        );
        if let Some(error) = &port.last_error {
            _ = writeln!(text, "           {}, the last: {error}", plural(port.errors, "error"));
        }
        if !port.queues.is_empty() {
            _ = writeln!(
                text,
                "queue                 packets       per s        bytes      kicks interrupts  per batch     dropped"
            );
        }
        port.queues.iter().for_each(|queue| line(&mut text, queue, wall));
    }
    text
}

fn line(text: &mut String, queue: &Queue, wall: u64) {
    let batches: u64 = queue.batches.iter().sum();
    let mean = if batches == 0 { 0.0 } else { queue.packets as f64 / batches as f64 };
    let drops = queue.drops;
    let reasons = [
        (drops.no_buffer, "no buffer"),
        (drops.too_large, "too large"),
        (drops.unknown_port, "unknown port"),
        (drops.malformed, "malformed"),
    ];
    let dropped: u64 = reasons.iter().map(|(number, _)| number).sum();
    _ = writeln!(
        text,
        "{:<3} {:<9}{:>16}{:>12}{:>13}{:>11}{:>11}{mean:>11.1}{:>12}",
        queue.index,
        queue.name,
        count(queue.packets),
        rate(queue.packets, wall),
        size(queue.bytes),
        count(queue.kicks),
        count(queue.interrupts),
        count(dropped)
    );
    let mut notes: Vec<String> = Vec::new();
    let work = [(queue.checksums, "checksums completed"), (queue.segmented, "cut into segments")];
    for (number, what) in reasons.into_iter().chain(work).filter(|(number, _)| *number > 0) {
        notes.push(format!("{} {what}", count(number)));
    }
    if !notes.is_empty() {
        _ = writeln!(text, "             {}", notes.join(" · "));
    }
}

/// A line for each port: what it did since `before`.
pub fn live(before: &SwitchCounts, now: &SwitchCounts) -> String {
    let us = (now.wall - before.wall).as_micros() as u64;
    let mut text = String::new();
    for (old, new) in before.ports.iter().zip(&now.ports) {
        let total = |port: &devices::switch::PortCounts| {
            port.pairs.iter().fold([0; 3], |[sent, received, dropped], pair| {
                let drops = pair.send.drops.total() + pair.receive.drops.total();
                [sent + pair.send.packets, received + pair.receive.packets, dropped + drops]
            })
        };
        let (old, [sent, received, dropped]) = (total(old), total(new));
        let per_second = |now: u64, before: u64| rate(now.saturating_sub(before), us);
        _ = writeln!(
            text,
            "port       {} · {} packets/s from it · {} to it · {} dropped",
            new.name,
            per_second(sent, old[0]),
            per_second(received, old[1]),
            per_second(dropped, old[2])
        );
    }
    text
}

fn plural(number: u64, what: &str) -> String {
    format!("{} {what}{}", count(number), if number == 1 { "" } else { "s" })
}
