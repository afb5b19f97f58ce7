//! Each knob that was set, what it has become, and the numbers of this report that prove it.

use serde_json::Value;

use crate::config::Asked;

use super::facts::Got;
use super::model::{Knob, Report};

/// One row for each knob in `asked`, in that order.
pub fn knobs(asked: &[Asked], got: &[Got], report: &Report) -> Vec<Knob> {
    if asked.is_empty() {
        return Vec::new();
    }
    let numbers = serde_json::to_value(report).unwrap_or_default();
    let row = |asked: &Asked| Knob {
        flag: asked.knob.flag(),
        asked: asked.value.clone(),
        got: got.iter().find(|got| got.knob == asked.knob).map(|got| got.got.clone()),
        evidence: asked
            .knob
            .evidence()
            .iter()
            .filter_map(|path| Some((*path, at(&numbers, path)?)))
            .collect(),
    };
    asked.iter().map(row).collect()
}

/// What stands at a path such as `halts.poll_attempted`, or in each row of a table, such as
/// `vcpus.migrations`; `None` where the report has no such key.
pub(super) fn at(report: &Value, path: &str) -> Option<Value> {
    let Some((key, rest)) = path.split_once('.') else { return report.get(path).cloned() };
    match report.get(key)? {
        Value::Array(rows) => rows.iter().map(|row| at(row, rest)).collect(),
        value => at(value, rest),
    }
}
