//! The report for programs.

use serde::Serialize;

/// Pretty-printed, with a newline at the end.
pub fn render(report: &impl Serialize) -> String {
    // Strings, numbers, maps with string keys: nothing in the model can fail to be JSON.
    let mut text = serde_json::to_string_pretty(report).unwrap_or_default();
    text.push('\n');
    text
}
