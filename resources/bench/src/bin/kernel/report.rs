//! One run of `vmm`, by its report.

use std::io;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// A report.
pub struct Report(Value);

impl Report {
    /// Runs `vmm` with these arguments to its end.
    pub fn of(vmm: &Path, arguments: &[&str]) -> io::Result<Report> {
        let file = std::env::temp_dir().join(format!("kernel-report-{}", std::process::id()));
        let output = Command::new(vmm)
            .args(["--console", "none", "--timeout", "600"])
            .args(arguments)
            .arg("--report")
            .arg(format!("json:{}", file.display()))
            .output()?;
        let report = std::fs::read(&file).map(|bytes| serde_json::from_slice(&bytes));
        let _ = std::fs::remove_file(&file);
        match report {
            Ok(Ok(report)) if output.status.success() => Ok(Report(report)),
            _ => {
                let said = String::from_utf8_lossy(&output.stderr);
                Err(io::Error::other(format!("vmm {}: {}", arguments.join(" "), said.trim())))
            }
        }
    }

    /// The record of `workload`, its last part.
    fn record(&self, workload: &str) -> Option<&Value> {
        let records = self.0["records"].as_array()?;
        records.iter().rev().find(|record| record["workload"] == workload && record["outcome"] == "ok")
    }

    /// Why there is none.
    pub fn outcome(&self, workload: &str) -> String {
        let records = self.0["records"].as_array().into_iter().flatten();
        let outcome =
            records.rev().find(|record| record["workload"] == workload).map(|record| &record["outcome"]);
        outcome.and_then(Value::as_str).unwrap_or("no record").into()
    }

    /// Nanoseconds of one operation.
    pub fn each_ns(&self, workload: &str) -> Option<f64> {
        let record = self.record(workload)?;
        Some(record["ns"].as_f64()? / record["ops"].as_f64()?)
    }

    /// A number of the workload's own.
    pub fn value(&self, workload: &str, name: &str) -> Option<u64> {
        self.record(workload)?["values"][name].as_u64()
    }

    /// HLT exits in the workload's phase, as KVM counts them.
    pub fn halts(&self, workload: &str) -> Option<u64> {
        let phases = self.0["phases"].as_array()?;
        phases.iter().find(|phase| phase["name"] == workload)?["halts"]["exits"].as_u64()
    }

    /// Exits to the monitor in the workload's phase.
    pub fn returns(&self, workload: &str) -> Option<u64> {
        let phases = self.0["phases"].as_array()?;
        let rows = phases.iter().find(|phase| phase["name"] == workload)?["exits"]["userspace"].as_array()?;
        rows.iter().map(|row| row["count"].as_u64()).sum()
    }

    pub fn at(&self, pointer: &str) -> Option<u64> {
        self.0.pointer(pointer)?.as_u64()
    }
}
