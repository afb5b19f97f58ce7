//! A comparison for people, as text.

use std::fmt::Write;

use super::analysis::{Change, ClassResult, MetricResult, SettingResult};
use super::bundle::{Better, Bundle};
use super::words;

/// Rows of the ledger that are shown for each setting; all are in the bundle.
const MOST_ROWS: usize = 12;

/// Writing to a String cannot fail.
macro_rules! line {
    ($text:expr, $($rest:tt)*) => { _ = writeln!($text, $($rest)*) };
}

pub fn render(bundle: &Bundle, classes: &[ClassResult]) -> String {
    let mut text = String::new();
    for (at, class) in classes.iter().enumerate() {
        if at > 0 {
            text.push('\n');
        }
        of_class(&mut text, bundle, class);
    }
    for skipped in &bundle.skipped {
        line!(text, "skipped    {}: {}", skipped.name, skipped.why);
    }
    if classes.len() > 1 {
        text.push_str("\nTimes are not compared between classes of hosts: each has its own table.\n");
    }
    if bundle.interrupted {
        text.push_str("\nEnded before its last run.\n");
    }
    text
}

fn of_class(text: &mut String, bundle: &Bundle, class: &ClassResult) {
    line!(text, "host       {}", class.class);
    if let Some(doubt) = class.doubt {
        line!(text, "           {doubt}");
    }
    for of in &class.settings {
        let first = if of.setting == 0 { " · the others are compared with it" } else { "" };
        line!(text, "setting    {} · {} runs{first}", of.name, of.runs);
        for why in &of.failed {
            line!(text, "           failed: {why}");
        }
    }
    let name = class.settings.iter().map(|of| of.name.chars().count()).max().unwrap_or(0).max(7);
    let header = format!("{:>10}  {:>10}  {:>10}", "median", "quartiles", "");
    line!(
        text,
        "\n{:<18}  {:<name$}  {header}  {:>7}  {:<12}",
        "metric",
        "setting",
        "ratio",
        "95 % interval"
    );
    for (at, metric) in bundle.metrics.iter().enumerate() {
        let mut label = metric.name.as_str();
        for of in &class.settings {
            let Some(row) = of.metrics.iter().find(|row| row.metric == at) else { continue };
            let unit = |value| words::value(value, metric.unit);
            let (low, high) = row.quartiles;
            let numbers = format!("{:>10}  {:>10}  {:>10}", unit(row.median), unit(low), unit(high));
            let line = format!("{label:<18}  {:<name$}  {numbers}  {}", of.name, verdict(row, metric.better));
            line!(text, "{}", line.trim_end());
            label = "";
        }
        if !label.is_empty() {
            line!(text, "{label:<18}  in no run");
        }
    }
    let first = class.settings.first();
    for of in class.settings.iter().filter(|of| !of.changed.is_empty()) {
        rows(text, first.map_or("", |first| &first.name), of);
    }
    text.push('\n');
    for of in &class.settings {
        if let Some(sentence) = words::sentence(bundle, class, of) {
            line!(text, "so         {sentence}");
        }
    }
    for of in &class.settings {
        if let Some(limiter) = &of.limiter {
            line!(text, "suspected  {}: {limiter}", of.name);
        }
    }
}

fn verdict(row: &MetricResult, better: Better) -> String {
    let (Some(ratio), interval) = (row.ratio, row.interval) else { return String::new() };
    let words = match (interval, better) {
        (None, _) => "one run tells no more",
        _ if !row.visible => "no visible difference",
        (_, Better::Unknown) => "",
        (_, Better::Lower) if ratio < 1.0 => "faster",
        (_, Better::Higher) if ratio > 1.0 => "faster",
        _ => "slower",
    };
    let interval = interval.map_or(String::new(), words::interval);
    format!("{:>7}  {interval:<15}  {words}", words::ratio(ratio))
}

fn rows(text: &mut String, first: &str, of: &SettingResult) {
    line!(text, "\nledger of {}, against {first}: what moved, largest first", of.name);
    let shown = of.changed.iter().take(MOST_ROWS);
    let width = shown.clone().map(|row| words::row(row.kind, &row.name).chars().count()).max().unwrap_or(0);
    for row in shown {
        let Change { kind, name, from, to } = row;
        let (factor, unit) = words::scale(from.abs().max(to.abs()), of.per_op);
        let (from, to) = (words::figures(from * factor), words::figures(to * factor));
        line!(text, "  {:<width$}  {from:>9} → {to:<9}  {unit}", words::row(*kind, name));
    }
    if let Some(more @ 1..) = of.changed.len().checked_sub(MOST_ROWS) {
        line!(text, "  … and {more} smaller ones");
    }
}

#[cfg(test)]
mod tests {
    use super::super::analysis::analyse;
    use super::super::bundle::tests::sample;
    use super::*;

    #[test]
    fn a_table_for_each_class_of_hosts() {
        let mut bundle = sample();
        let one = render(&bundle, &analyse(&bundle));
        for words in [
            "setting    idle=halt · 4 runs · the others are compared with it",
            "0.50×  0.50 – 0.50      faster",
            "1.00×  1.00 – 1.00      no visible difference",
            "halt exits       2.00 → 0.2        per operation",
            "so         idle=guest-poll takes 0.50",
            "suspected  idle=halt: vCPU 0: it ran 90 % of the time",
        ] {
            assert!(one.contains(words), "no {words:?} in\n{one}");
        }
        let mut other = sample();
        other.hosts[0].kvm = "pvm".into();
        other.runs[3].failed = Some("status 80: the guest panicked".into());
        bundle.join(other);
        let two = render(&bundle, &analyse(&bundle));
        assert!(two.contains("not compared between classes") && two.contains("failed: status 80"), "{two}");
        assert!(two.contains("ring 0 is interpreted"), "{two}");
    }
}
