//! An experiment for people, as text.

use std::fmt::Write;

use super::Result;
use super::catalogue::Experiment;
use super::judge::Row;
use super::tools::Beside;
use crate::compare::{analysis, words};

/// Writing to a String cannot fail.
macro_rules! line {
    ($text:expr, $($rest:tt)*) => { _ = writeln!($text, $($rest)*) };
}

/// The catalogue.
pub fn list(all: &[Experiment]) -> String {
    let mut text = String::new();
    for one in all {
        line!(text, "{:<11} {}", one.name, one.title);
        line!(
            text,
            "{:<11} {}; {} settings, {} published figures",
            "",
            one.source,
            one.settings.len(),
            one.published.len()
        );
    }
    line!(text, "\nvmm repro NAME runs one, vmm repro --all runs all; --full at the published size");
    text
}

pub fn render(result: &Result) -> String {
    let Result { experiment, judgement, .. } = result;
    let mut text = String::new();
    line!(text, "{:<10} {}", experiment.name, experiment.title);
    line!(text, "source     {}", experiment.source);
    line!(text, "compared   {}", experiment.compared);
    if let Some(defects) = &experiment.defects {
        line!(text, "mended     {defects}");
    }
    line!(text, "should     {}", experiment.mechanism);
    for host in &result.bundle.hosts {
        line!(text, "host       {}", host.class());
    }
    if let Some(doubt) = judgement.doubt {
        line!(text, "           {doubt}: direction by counts alone");
    }
    line!(text, "size       {}", size(result));
    table(&mut text, experiment, &judgement.rows);
    result.beside.iter().for_each(|beside| tools(&mut text, experiment, beside));
    for (name, why) in &result.left_out {
        line!(text, "left out   {name}: {why}");
    }
    for claim in &judgement.claims {
        line!(text, "claim      {}: {} · {}", claim.claim, claim.found, claim.verdict.label());
    }
    for class in result.classes() {
        for of in &class.settings {
            for why in &of.failed {
                line!(text, "failed     {}: {why}", of.name);
            }
            if let Some(limiter) = &of.limiter {
                line!(text, "suspected  {}: {limiter}", of.name);
            }
        }
    }
    let by = if judgement.doubt.is_some() { ", by counts alone" } else { "" };
    line!(text, "so         {}{by}\n", judgement.verdict.label());
    text
}

pub fn size(result: &Result) -> String {
    let words = |sizes: &std::collections::BTreeMap<String, String>| {
        sizes.iter().map(|(key, size)| format!("{key}={size}")).collect::<Vec<_>>().join(" ")
    };
    let Experiment { small, full, .. } = &result.experiment;
    match result.full {
        true => format!("{}, as published", words(full)),
        false => format!("{}; as published, with --full: {}", words(small), words(full)),
    }
}

fn table(text: &mut String, experiment: &Experiment, rows: &[Row]) {
    let width = rows.iter().map(|row| name(row).chars().count()).max().unwrap_or(0);
    let head = format!(
        "{:>18}  {:>6}  {:>12}  {:>7}  {:<15}",
        "published", "ratio", "here", "ratio", "95 % interval"
    );
    line!(text, "\n{:<width$}  {head}", "");
    for row in rows {
        let published =
            row.published.map_or("-".into(), |value| format!("{} {}", words::figures(value), row.unit));
        let ratio = |ratio: Option<f64>| ratio.map_or("-".into(), words::ratio);
        let here = row.here_ns.map_or("-".into(), |ns| here(experiment, ns));
        let interval = row.here_interval.map_or(String::new(), words::interval);
        let verdict = if row.published.is_some() { row.verdict.label() } else { "" };
        let line = format!(
            "{:<width$}  {published:>18}  {:>6}  {here:>12}  {:>7}  {interval:<15}  {verdict}",
            name(row),
            ratio(row.published_ratio),
            ratio(row.here_ratio)
        );
        line!(text, "{}", line.trim_end());
    }
    line!(text, "{:<width$}  ratios are of times, to the first row of a kind that ran here\n", "");
}

/// Our workload and the tool that everyone knows, place by place.
fn tools(text: &mut String, experiment: &Experiment, beside: &Beside) {
    let width = beside.pairs.iter().map(|pair| pair.setting.chars().count()).max().unwrap_or(0);
    let name = &beside.name;
    let head = format!(
        "{:>12}  {name:>12}  {:>7}  {:<15}  {:>12}  {name:>12}",
        "ours", "ratio", "95 % interval", "exits: ours"
    );
    line!(text, "{:<width$}  {head}", "");
    for pair in &beside.pairs {
        let [ours, tool] =
            [pair.ours_ns, pair.tool_ns].map(|ns| ns.map_or("-".into(), |ns| here(experiment, ns)));
        let [ours_exits, tool_exits] =
            [pair.ours_exits, pair.tool_exits].map(|exits| exits.map_or("-".into(), words::figures));
        let ratio = pair.ratio.map_or("-".into(), words::ratio);
        let interval = pair.interval.map_or(String::new(), words::interval);
        line!(
            text,
            "{:<width$}  {ours:>12}  {tool:>12}  {ratio:>7}  {interval:<15}  {ours_exits:>12}  {tool_exits:>12}",
            pair.setting
        );
    }
    line!(
        text,
        "{:<width$}  the tool's time to ours; exits are for one operation, the tool's with its start and end\n",
        ""
    );
    for class in analysis::analyse(&beside.bundle) {
        for (of, why) in class.settings.iter().flat_map(|of| of.failed.iter().map(move |why| (of, why))) {
            line!(text, "failed     {}: {why}", of.name);
        }
    }
}

/// What is held against what.
pub fn name(row: &Row) -> String {
    match &row.setting {
        Some(setting) if row.published.is_none() => setting.clone(),
        Some(setting) => format!("{} | {setting}", row.what),
        None => format!("{} | not run here", row.what),
    }
}

/// Our figure, in the published unit where that is a rate.
pub fn here(experiment: &Experiment, ns: f64) -> String {
    match &experiment.rate {
        Some(rate) if ns > 0.0 => format!("{} {}", words::figures(rate.one / ns), rate.unit),
        _ => words::value(ns, crate::compare::bundle::Unit::Ns),
    }
}

#[cfg(test)]
mod tests {
    use super::super::judge;
    use super::super::judge::tests::experiment;
    use super::*;
    use crate::compare::bundle::tests::sample;

    #[test]
    fn published_beside_ours_and_what_it_means() {
        let (experiment, bundle) = (experiment(), sample());
        let judgement = judge::judge(&experiment, &bundle);
        let left_out = vec![("x".to_owned(), "needs y".to_owned())];
        let text = render(&Result { experiment, full: false, left_out, bundle, judgement, beside: None });
        for words in [
            "b | idle=guest-poll              12.0 s   0.55×       1.00 µs    0.50×  0.50 – 0.50      same direction",
            "left out   x: needs y",
            "claim      idle=guest-poll: halt exits at least 5 times less than idle=halt, the larger at least 1.00 per operation: 2.00 per operation → 0.2 per operation, 10.0 times · same direction",
            "suspected  idle=halt: vCPU 0",
            "so         same direction",
        ] {
            assert!(text.contains(words), "no {words:?} in\n{text}");
        }
    }
}
