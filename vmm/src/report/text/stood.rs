//! Where the vCPUs were when the machine was ended from outside.

use super::super::model::{Report, Stood};
use super::lines::prose;

/// As many as one looks at.
const FEW: usize = 4;

/// Appends a line for each vCPU, or for the first few.
pub fn stood(out: &mut String, report: &Report, all: bool) {
    let many = if all { usize::MAX } else { FEW };
    for vcpu in report.vcpus.iter().take(many) {
        if let Some(stood) = &vcpu.stood {
            prose(out, &format!("vCPU {}", vcpu.vcpu), &words(stood));
        }
    }
}

/// `halted · long mode, ring 0 · rip 0xffffffff81000000 · takes interrupts · requested 34, 236`
fn words(stood: &Stood) -> String {
    let mut words = format!(
        "{} · {} mode, ring {} · rip {}",
        stood.state.unwrap_or("in a state of its own"),
        stood.mode,
        stood.ring,
        stood.rip
    );
    words.push_str(if stood.takes_interrupts { " · takes interrupts" } else { " · takes none" });
    for (vectors, what) in [(&stood.requested, "requested"), (&stood.in_service, "in service")] {
        if !vectors.is_empty() {
            let vectors: Vec<String> = vectors.iter().map(u8::to_string).collect();
            words.push_str(&format!(" · {what} {}", vectors.join(", ")));
        }
    }
    words
}
