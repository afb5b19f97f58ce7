//! Two sights → text of 80 columns.

use super::sight::{Row, Sight, Vcpu};
use crate::report::text::units::{count, duration};

/// Columns of the narrowest terminal.
pub const WIDTH: usize = 80;
/// vCPUs and rows that fit on a terminal of 24 lines.
const VCPUS: usize = 6;
const ROWS: usize = 10;

/// What happened between two sights of one machine, a line each.
pub fn lines(before: &Sight, now: &Sight) -> Vec<String> {
    let us = now.at_us.saturating_sub(before.at_us).max(1);
    let mut lines = vec![format!(
        "vmm {} · KVM {} · {} · {} exits/s",
        now.pid,
        plain(&now.kvm),
        duration(now.at_us.saturating_mul(1000)),
        per_second(total(&now.vcpus), total(&before.vcpus), us)
    )];
    lines.push(String::new());
    lines.push(format!("{:>4}{:>8}{:>14}{:>12}{:>10}", "vCPU", "CPU", "exits/s", "halts/s", "asleep"));
    let none = Vcpu::default();
    for (number, one) in now.vcpus.iter().enumerate().take(VCPUS) {
        let then = before.vcpus.get(number).unwrap_or(&none);
        let part =
            |now: u64, then: u64| format!("{:.0} %", now.saturating_sub(then) as f64 / us as f64 / 10.0);
        lines.push(format!(
            "{number:>4}{:>8}{:>14}{:>12}{:>10}",
            part(one.cpu_ns, then.cpu_ns),
            per_second(one.exits, then.exits, us),
            per_second(one.halts, then.halts, us),
            part(one.asleep_ns, then.asleep_ns),
        ));
    }
    if now.vcpus.len() > VCPUS {
        lines.push(format!("     … and {} more", now.vcpus.len() - VCPUS));
    }
    lines.push(String::new());
    let kernel = |(name, value): &(String, u64)| {
        let then = before.kernel.iter().find(|(known, _)| known == name).map_or(0, |(_, value)| *value);
        (*value > then).then(|| format!("{} {}", plain(name), per_second(*value, then, us)))
    };
    lines.push(format!("per s: {}", now.kernel.iter().filter_map(kernel).collect::<Vec<_>>().join(" · ")));
    lines.push(String::new());
    lines.push(format!("{:>11}{:>10}{:>8}  {}", "per s", "mean", "of CPU", title(now)));
    lines.extend(changed(before, now).into_iter().take(ROWS).map(|(row, count, ns)| {
        let part = format!("{:.1} %", ns as f64 / us as f64 / 10.0);
        let mean = duration(ns / count.max(1));
        format!("{:>11}{mean:>10}{part:>8}  {}", per_second(count, 0, us), plain(&row.what))
    }));
    lines.into_iter().map(|line| cut(line.trim_end())).collect()
}

/// The same in one line, for a log.
pub fn line(before: &Sight, now: &Sight) -> String {
    let us = now.at_us.saturating_sub(before.at_us).max(1);
    let hot = changed(before, now).into_iter().next();
    let hot = hot.map_or(String::new(), |(row, count, _)| {
        format!(" · {} {}/s", plain(&row.what), per_second(count, 0, us))
    });
    let halts = |sight: &Sight| sight.vcpus.iter().map(|one| one.halts).sum();
    cut(&format!(
        "{} · {} exits/s · {} halts/s{hot}",
        duration(now.at_us.saturating_mul(1000)),
        per_second(total(&now.vcpus), total(&before.vcpus), us),
        per_second(halts(now), halts(before), us),
    ))
}

fn title(now: &Sight) -> &'static str {
    if now.traced { "exits, by the processor's reason" } else { "exits that return to vmm" }
}

fn total(vcpus: &[Vcpu]) -> u64 {
    vcpus.iter().map(|one| one.exits).sum()
}

/// Rows that have moved, with how much, those of most time first.
fn changed<'s>(before: &Sight, now: &'s Sight) -> Vec<(&'s Row, u64, u64)> {
    let moved = |row: &'s Row| {
        let then = before.rows.iter().find(|known| known.what == row.what);
        let count = row.count.saturating_sub(then.map_or(0, |then| then.count));
        let ns = row.ns.saturating_sub(then.map_or(0, |then| then.ns));
        (count > 0).then_some((row, count, ns))
    };
    let mut rows: Vec<_> = now.rows.iter().filter_map(moved).collect();
    rows.sort_by_key(|(_, count, ns)| std::cmp::Reverse((*ns, *count)));
    rows
}

fn per_second(now: u64, then: u64, us: u64) -> String {
    let rate = now.saturating_sub(then) as f64 * 1e6 / us as f64;
    count(rate.round() as u64)
}

/// Text that somebody else wrote, without what moves a terminal's cursor.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn cut(line: &str) -> String {
    line.chars().take(WIDTH).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(seconds: u64) -> Sight {
        let n = seconds;
        let vcpu =
            Vcpu { cpu_ns: n * 250_000_000, exits: n * 12_000, halts: n * 3, asleep_ns: n * 700_000_000 };
        let row = |what: &str, count, ns| Row { what: what.into(), count: n * count, ns: n * ns };
        Sight {
            pid: 1234,
            kvm: "svm".into(),
            at_us: n * 1_000_000,
            vcpus: vec![vcpu; 9],
            kernel: vec![("io".into(), n * 500), ("mmio".into(), 0)],
            traced: false,
            rows: vec![
                row("io-read serial.0 LSR", 900, 900_000),
                row("io-write serial.0 THR \u{1b}[2J", 400, 20_000_000),
                row(&"long ".repeat(40), 1, 1),
                row("never", 0, 0),
            ],
        }
    }

    #[test]
    fn rates_are_of_the_time_between_and_fit_a_terminal() {
        let lines = lines(&sight(3), &sight(5));
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH), "{lines:#?}");
        assert!(lines.len() <= 24, "{lines:#?}");
        assert_eq!(lines[0], "vmm 1234 · KVM svm · 5.00 s · 108,000 exits/s");
        assert_eq!(lines[3], "   0    25 %        12,000           3      70 %");
        assert_eq!(lines[9], "     … and 3 more");
        assert_eq!(lines[11], "per s: io 500");
        assert_eq!(lines[14], "        400   50.0 µs   2.0 %  io-write serial.0 THR ?[2J");
        assert_eq!(lines.len(), 17, "{lines:#?}");
    }

    #[test]
    fn a_log_has_a_line() {
        let line = line(&sight(1), &sight(2));
        assert_eq!(line, "2.00 s · 108,000 exits/s · 27 halts/s · io-write serial.0 THR ?[2J 400/s");
    }

    #[test]
    fn sights_that_make_no_sense_make_no_panic() {
        lines(&sight(9), &sight(1));
        lines(&Sight::default(), &Sight { at_us: u64::MAX, ..Sight::default() });
    }
}
