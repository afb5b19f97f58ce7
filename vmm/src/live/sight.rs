//! A machine at one moment: counts since its start. Whoever looks makes rates of two.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sight {
    pub pid: u32,
    /// `vmx`, `svm`, `pvm`, `unknown`.
    pub kvm: String,
    /// Since the machine's threads were started.
    pub at_us: u64,
    pub vcpus: Vec<Vcpu>,
    /// KVM's counters of all vCPUs, by the report's names.
    pub kernel: Vec<(String, u64)>,
    /// Whether `rows` are all exits, by the processor's reason, or those that returned to vmm.
    pub traced: bool,
    pub rows: Vec<Row>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vcpu {
    pub cpu_ns: u64,
    pub exits: u64,
    pub halts: u64,
    pub asleep_ns: u64,
}

/// Exits of one reason and target, all vCPUs together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Reason and target, in words.
    pub what: String,
    pub count: u64,
    pub ns: u64,
}
