//! Medians, spread and ratios, with what was aimed at beside them.

use std::time::Duration;

use crate::counts::Counts;
use crate::measure::{Idle, Image, Traced};
use crate::monitor::Monitor;

/// Rows as wide as their widest cell; the first column to the left, the others to the right.
fn print(title: &str, rows: &[Vec<String>]) {
    println!("\n{title}");
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            line += &if column == 0 { format!("  {cell:<width$}") } else { format!("  {cell:>width$}") };
        }
        println!("{}", line.trim_end());
    }
}

fn row<const N: usize>(cells: [&dyn ToString; N]) -> Vec<String> {
    cells.iter().map(|cell| cell.to_string()).collect()
}

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
    let mut sorted: Vec<f64> = times.iter().map(milliseconds).collect();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        let times = |list: &[u64]| list.iter().map(|ms| Duration::from_millis(*ms)).collect::<Vec<_>>();
        assert_eq!(median(&times(&[3, 1, 2])), 2.0);
        assert_eq!(median(&times(&[4, 1, 2, 3])), 2.5);
        assert!(median(&[]).is_nan());
    }
}
