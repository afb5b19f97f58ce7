//! Plots as inline SVG. Widths are those of a phone, so that text stays readable where they shrink.

use std::fmt::Write;

use super::super::analysis::{ClassResult, MetricResult, SettingResult};
use super::super::bundle::Metric;
use super::super::words;
use super::escape;

const WIDTH: f64 = 420.0;
const MARGIN: f64 = 8.0;
/// Of one setting: a line of text, and below it what is drawn.
const ROW: f64 = 52.0;
/// A second line of text, where name and numbers do not fit on one.
const LINE: f64 = 17.0;
/// Characters on a line.
const FITS: usize = 56;

/// Parts of a bar with colours of their own; the rest is one part.
const MOST_PARTS: usize = 6;

macro_rules! put {
    ($text:expr, $($rest:tt)*) => { _ = writeln!($text, $($rest)*) };
}

/// Points, median and quartiles of a metric, one row for each setting, from zero.
pub fn intervals(at: usize, metric: &Metric, class: &ClassResult) -> Option<String> {
    let rows =
        class.settings.iter().filter_map(|of| Some((of, of.metrics.iter().find(|row| row.metric == at)?)));
    let rows: Vec<(&SettingResult, &MetricResult)> = rows.collect();
    let largest = rows.iter().flat_map(|(_, row)| &row.points).copied().fold(0.0, f64::max);
    if largest <= 0.0 {
        return None;
    }
    let x = |value: f64| MARGIN + value.max(0.0) / largest * (WIDTH - 2.0 * MARGIN);
    let numbers: Vec<String> = rows.iter().map(|(_, row)| numbers(row, metric)).collect();
    let extra: Vec<f64> =
        rows.iter().zip(&numbers).map(|((of, _), numbers)| extra(&of.name, numbers)).collect();
    let height = ROW * rows.len() as f64 + extra.iter().sum::<f64>() + 22.0;
    let mut svg = String::new();
    let title = escape(&metric.name);
    put!(svg, "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}\">");
    let mut top = 0.0;
    for (i, (of, row)) in rows.iter().enumerate() {
        let (text, below) = (top + 15.0, top + 15.0 + extra[i]);
        let middle = below + 19.0;
        top += ROW + extra[i];
        let color = format!("var(--c{})", i % MOST_PARTS);
        let right = WIDTH - MARGIN;
        labels(&mut svg, &of.name, &numbers[i], (text, below));
        put!(svg, "<line class=\"axis\" x1=\"{MARGIN}\" x2=\"{right}\" y1=\"{middle}\" y2=\"{middle}\"/>");
        let (low, high) = (x(row.quartiles.0), x(row.quartiles.1));
        let (y, wide) = (middle - 7.0, (high - low).max(1.0));
        put!(
            svg,
            "<rect x=\"{low:.1}\" y=\"{y}\" width=\"{wide:.1}\" height=\"14\" rx=\"3\" fill=\"{color}\" fill-opacity=\"0.3\"/>"
        );
        for point in &row.points {
            put!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{middle}\" r=\"3\" fill=\"{color}\" fill-opacity=\"0.7\"/>",
                x(*point)
            );
        }
        let (median, from, to) = (x(row.median), middle - 10.0, middle + 10.0);
        put!(
            svg,
            "<line x1=\"{median:.1}\" x2=\"{median:.1}\" y1=\"{from}\" y2=\"{to}\" stroke=\"{color}\" stroke-width=\"3\"/>"
        );
    }
    let (bottom, right) = (height - 6.0, WIDTH - MARGIN);
    put!(svg, "<text class=\"soft\" x=\"{MARGIN}\" y=\"{bottom}\">0</text>");
    let largest = words::value(largest, metric.unit);
    put!(
        svg,
        "<text class=\"soft\" x=\"{right}\" y=\"{bottom}\" text-anchor=\"end\">{largest}</text>\n</svg>"
    );
    Some(svg)
}

/// All exits of each setting as a bar of their causes, to one scale.
pub fn exits(class: &ClassResult) -> Option<String> {
    let rows: Vec<&SettingResult> = class.settings.iter().filter(|of| !of.exits.is_empty()).collect();
    // What is below zero was counted twice by KVM, and has no width.
    let sum = |of: &SettingResult| of.exits.iter().map(|(_, count)| count.max(0.0)).sum::<f64>();
    let largest = rows.iter().map(|of| sum(of)).fold(0.0, f64::max);
    if largest <= 0.0 {
        return None;
    }
    let names = named(&rows);
    let per_op = rows.iter().all(|of| of.per_op);
    let (factor, unit) = words::scale(largest, per_op);
    let numbers = |of: &SettingResult| format!("{} {unit}", words::figures(sum(of) * factor));
    let height: f64 = rows.iter().map(|of| ROW + extra(&of.name, &numbers(of))).sum();
    let mut svg = String::new();
    put!(svg, "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"exits by cause\">");
    let mut top = 0.0;
    for of in &rows {
        let numbers = numbers(of);
        let extra = extra(&of.name, &numbers);
        labels(&mut svg, &of.name, &numbers, (top + 15.0, top + 15.0 + extra));
        let y = top + extra + 22.0;
        top += ROW + extra;
        let mut x = MARGIN;
        for (part, count) in parts(of, &names) {
            let width = count / largest * (WIDTH - 2.0 * MARGIN);
            let title = format!(
                "{}: {} {unit}",
                names.get(part).map_or("other", String::as_str),
                words::figures(count * factor)
            );
            put!(
                svg,
                "<rect x=\"{x:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"20\" fill=\"var(--c{part})\"><title>{}</title></rect>",
                escape(&title)
            );
            x += width;
        }
    }
    put!(svg, "</svg>\n<ul class=\"legend\">");
    for (part, name) in names.iter().map(String::as_str).chain(["other"]).enumerate() {
        put!(svg, "<li><i style=\"background:var(--c{part})\"></i>{}</li>", escape(name));
    }
    put!(svg, "</ul>");
    Some(svg)
}

/// The median, and what it is to the first setting's.
fn numbers(row: &MetricResult, metric: &Metric) -> String {
    let ratio = match (row.ratio, row.interval) {
        (Some(ratio), Some(interval)) => {
            let same = if row.visible { "" } else { " same" };
            format!(" · {} ({}){same}", words::ratio(ratio), words::interval(interval))
        }
        (Some(ratio), None) => format!(" · {}", words::ratio(ratio)),
        _ => String::new(),
    };
    words::value(row.median, metric.unit) + &ratio
}

fn extra(name: &str, numbers: &str) -> f64 {
    if name.chars().count() + numbers.chars().count() > FITS { LINE } else { 0.0 }
}

/// A setting's name on the left, its numbers on the right.
fn labels(svg: &mut String, name: &str, numbers: &str, (text, below): (f64, f64)) {
    let right = WIDTH - MARGIN;
    put!(svg, "<text x=\"{MARGIN}\" y=\"{text}\">{}</text>", escape(name));
    let numbers = escape(numbers);
    put!(svg, "<text class=\"soft\" x=\"{right}\" y=\"{below}\" text-anchor=\"end\">{numbers}</text>");
}

/// The causes with a colour of their own: the largest in any setting.
fn named(rows: &[&SettingResult]) -> Vec<String> {
    let mut largest: Vec<(String, f64)> = Vec::new();
    for (name, count) in rows.iter().flat_map(|of| &of.exits) {
        match largest.iter_mut().find(|(known, _)| known == name) {
            Some((_, most)) => *most = most.max(*count),
            None => largest.push((name.clone(), *count)),
        }
    }
    largest.sort_by(|a, b| b.1.total_cmp(&a.1));
    largest.into_iter().take(MOST_PARTS).map(|(name, _)| name).collect()
}

/// Number of the colour, and count; what has no colour is added up as the last one.
fn parts(of: &SettingResult, names: &[String]) -> Vec<(usize, f64)> {
    let count = |name: &String| {
        of.exits.iter().find(|(known, _)| known == name).map_or(0.0, |(_, count)| count.max(0.0))
    };
    let mut parts: Vec<(usize, f64)> = names.iter().map(count).enumerate().collect();
    let rest =
        of.exits.iter().filter(|(name, _)| !names.contains(name)).map(|(_, count)| count.max(0.0)).sum();
    parts.push((names.len(), rest));
    parts.retain(|(_, count)| *count > 0.0);
    parts
}
