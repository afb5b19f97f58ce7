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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_what_is_there() {
        let hex = |number: u64| format!("{number:#x}");
        let stood = Stood {
            state: Some("halted"),
            mode: "long",
            ring: 0,
            takes_interrupts: true,
            rip: hex(0x10_0120),
            rsp: hex(0),
            cr2: hex(0),
            cr3: hex(0x9000),
            requested: vec![34, 236],
            in_service: Vec::new(),
        };
        let line = "halted · long mode, ring 0 · rip 0x100120 · takes interrupts · requested 34, 236";
        assert_eq!(words(&stood), line);
        let lost = Stood {
            state: None,
            takes_interrupts: false,
            requested: Vec::new(),
            in_service: vec![2],
            ..stood
        };
        assert!(words(&lost).starts_with("in a state of its own · "), "{}", words(&lost));
        assert!(words(&lost).ends_with(" · takes none · in service 2"), "{}", words(&lost));
    }
}
