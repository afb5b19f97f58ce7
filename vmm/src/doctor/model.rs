//! Findings as data: `vmm.doctor/1`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::report::Host;

/// The name of this layout. A key may be added under it; none is removed or changes its meaning.
pub const SCHEMA: &str = "vmm.doctor/1";

#[derive(Debug, Serialize)]
pub struct Checkup {
    pub schema: &'static str,
    /// The status that the program ends with: 0, 69 (no usable KVM) or 77 (no permission).
    pub status: u8,
    pub host: Host,
    pub findings: Vec<Finding>,
    pub pools: Vec<Pool>,
    /// The report's name of a counter of KVM → whether it moves here.
    pub counters: BTreeMap<&'static str, bool>,
}

/// One thing that was looked at.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// `kvm`, `devices`, `memory`, `cpus`, `counting`.
    pub area: &'static str,
    pub name: &'static str,
    pub verdict: Verdict,
    pub found: String,
    /// What would mend it, in one line.
    pub remedy: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Good,
    /// A machine runs; it could be faster, or its times steadier.
    Tune,
    /// Something that a knob needs is not there.
    Lacks,
    /// No machine runs.
    Fatal,
}

impl Verdict {
    pub fn label(self) -> &'static str {
        match self {
            Verdict::Good => "good",
            Verdict::Tune => "tune",
            Verdict::Lacks => "lacks",
            Verdict::Fatal => "FATAL",
        }
    }
}

/// The pool of one size of huge pages on one NUMA node, in pages.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Pool {
    pub page_kib: u64,
    pub node: u32,
    pub total: u64,
    pub free: u64,
}

impl Finding {
    pub fn good(area: &'static str, name: &'static str, found: impl Into<String>) -> Finding {
        Finding { area, name, verdict: Verdict::Good, found: found.into(), remedy: None }
    }

    /// The same, as something to mend.
    pub fn mend(self, verdict: Verdict, remedy: impl Into<String>) -> Finding {
        Finding { verdict, remedy: Some(remedy.into()), ..self }
    }
}
