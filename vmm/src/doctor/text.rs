//! The checkup for people: what was found, and below it, what would mend it.

use std::fmt::Write;

use super::model::{Checkup, Verdict};

/// Columns of a name.
const NAME: usize = 22;

pub fn render(checkup: &Checkup) -> String {
    let mut text = String::new();
    let count = |verdict| checkup.findings.iter().filter(|finding| finding.verdict == verdict).count();
    let verdict = match checkup.status {
        0 => "machines run here",
        _ => "no machine runs here",
    };
    // Writing to a String cannot fail.
    _ = writeln!(text, "{verdict} · {} lacks · {} to tune", count(Verdict::Lacks), count(Verdict::Tune));
    let mut area = "";
    for finding in &checkup.findings {
        if finding.area != area {
            area = finding.area;
            _ = writeln!(text, "\n{area}");
        }
        let label = finding.verdict.label();
        _ = writeln!(text, "  {label:<5}  {:<NAME$}  {}", finding.name, finding.found);
        if let Some(remedy) = &finding.remedy {
            _ = writeln!(text, "         {:<NAME$}  → {remedy}", "");
        }
    }
    text
}
