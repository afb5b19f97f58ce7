//! One run of `vmm topology`, by its report.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{self, Command, Stdio};

use serde_json::Value;

/// What an operation took.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub ns: f64,
    /// Of both machines, while their workloads ran.
    pub exits: f64,
    pub kicks: f64,
    pub interrupts: f64,
}

pub fn run(vmm: &Path, topology: &str, path: &str, set: &[&str]) -> io::Result<Run> {
    let report = std::env::temp_dir().join(format!("bench-switch-{}.json", process::id()));
    let output = Command::new(vmm)
        .args(["topology", topology, "--path", path, "--timeout", "120", "--report"])
        .arg(format!("json:{}", report.display()))
        .args(set.iter().map(|set| format!("--set={set}")))
        .stdin(Stdio::null())
        .output()?;
    let text = fs::read_to_string(&report);
    // There is none where it refused.
    let _ = fs::remove_file(&report);
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(said.lines().last().unwrap_or_default().to_owned()));
    }
    let report: Value = serde_json::from_str(&text?).map_err(io::Error::other)?;
    let number = |value: &Value, what: &str| {
        value[what].as_f64().ok_or_else(|| io::Error::other(format!("{topology} by {path}: no {what}")))
    };
    let (measured, each) = (&report["measured"], &report["per_op"]);
    Ok(Run {
        ns: number(measured, "ns_per_op")?,
        exits: number(each, "exits")?,
        kicks: number(each, "kicks")?,
        interrupts: number(each, "interrupts")?,
    })
}
