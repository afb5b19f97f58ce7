//! Medians, spread and ratios, with what was aimed at beside them.

use std::time::Duration;

use bench::counts::Counts;
use bench::table::{self, print, row};

use crate::measure::{Idle, Image, Traced};
use crate::monitor::Monitor;

pub fn times(image: &Image, monitors: &[Monitor], times: &[Vec<Duration>]) {
    let reference = times.last().map_or(f64::NAN, |last| median(last));
    let mut rows = vec![row([&"", &"median ms", &"min", &"max", &"runs", &"ratio", &"target"])];
    for (monitor, times) in monitors.iter().zip(times) {
        let bound =
            |pick: fn(f64, f64) -> f64| times.iter().map(milliseconds).reduce(pick).unwrap_or(f64::NAN);
        let target = if matches!(monitor, Monitor::Vmm(_)) { "<= 0.35" } else { "" };
        let ratio = median(times) / reference;
        rows.push(row([
            &monitor.name(),
            &format!("{:.0}", median(times)),
            &format!("{:.0}", bound(f64::min)),
            &format!("{:.0}", bound(f64::max)),
            &times.len(),
            &format!("{ratio:.2}"),
            &target,
        ]));
    }
    print(&format!("exec to the first line of userspace, {}", image.name), &rows);
}

fn milliseconds(time: &Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// In milliseconds.
fn median(times: &[Duration]) -> f64 {
    table::median(&times.iter().map(milliseconds).collect::<Vec<_>>())
}

pub fn exits(image: &Image, serial: bool, monitors: &[Monitor], traced: &[Traced]) {
    let mut rows = vec![row([&"", &"in all", &"target", &"to userspace", &"target"])];
    for (monitor, traced) in monitors.iter().zip(traced) {
        let (all, userspace) = match (monitor, serial) {
            (Monitor::Vmm(_), true) => ("<= 2100", "<= 250"),
            (Monitor::Vmm(_), false) => ("<= 2100", "<= 60"),
            _ => ("", ""),
        };
        rows.push(row([
            &monitor.name(),
            &total(&traced.reasons),
            &all,
            &total(&traced.userspace),
            &userspace,
        ]));
    }
    let console = if serial { "with a serial console" } else { "without a console" };
    print(&format!("exits until process 1, {}, {console}", image.name), &rows);
}

fn total(counts: &Counts) -> u64 {
    counts.values().sum()
}

/// Every histogram, largest first.
pub fn detail(monitors: &[Monitor], traced: &[Traced]) {
    for (monitor, traced) in monitors.iter().zip(traced) {
        let all = [("hardware reasons", &traced.reasons), ("returns to userspace", &traced.userspace)];
        for (name, counts) in
            all.into_iter().chain(traced.others.iter().map(|(name, counts)| (*name, counts)))
        {
            let mut sorted: Vec<_> = counts.iter().collect();
            sorted.sort_by_key(|(_, hits)| std::cmp::Reverse(**hits));
            let rows: Vec<_> = sorted.iter().take(40).map(|(key, hits)| row([key, hits])).collect();
            print(&format!("{}: {name}: {}", monitor.name(), total(counts)), &rows);
        }
    }
}

pub fn idle(monitors: &[Monitor], idle: &[Idle]) {
    let mut rows = vec![row([&"", &"exits", &"to userspace", &"target", &"CPU ms"])];
    let mut memory = vec![row([&"", &"resident KiB", &"target", &"private KiB", &"target"])];
    for (monitor, idle) in monitors.iter().zip(idle) {
        let ours = matches!(monitor, Monitor::Vmm(_));
        let target = |words| if ours { words } else { "" };
        rows.push(row([&monitor.name(), &idle.exits, &idle.userspace, &target("0"), &idle.cpu_ms]));
        memory.push(row([
            &monitor.name(),
            &idle.memory.resident,
            &target("<= 2048"),
            &idle.memory.private,
            &target("<= 512"),
        ]));
    }
    print(&format!("an idle guest, {} s", Idle::TIME.as_secs()), &rows);
    print("memory beside the guest's own", &memory);
}
