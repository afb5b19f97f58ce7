//! The host, in the words of the report.

use std::fs;

use serde::Serialize;

use crate::kvm::class::Class;

/// Which host it was.
#[derive(Clone, Debug, Serialize)]
pub struct Host {
    /// `vmx`, `svm`, `pvm`, `unknown`.
    pub kvm: &'static str,
    /// The host is a virtual machine itself.
    pub nested: Option<bool>,
    pub kernel: Option<String>,
    pub cpu: Option<String>,
    pub cpus: Option<usize>,
}

impl Host {
    /// Asks /sys and /proc: not before the guest has ended.
    pub fn detect(class: Class) -> Host {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").ok().map(|text| text.trim().to_owned());
        Host { kvm: class.label(), kernel, ..Host::of_cpuinfo(&cpuinfo) }
    }

    fn of_cpuinfo(text: &str) -> Host {
        let field = |name: &str| {
            let line = text.lines().find(|line| line.split('\t').next() == Some(name))?;
            line.split_once(": ").map(|(_, value)| value.trim())
        };
        let cpus = text.lines().filter(|line| line.starts_with("processor\t")).count();
        Host {
            kvm: Class::Unknown.label(),
            nested: field("flags").map(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
            kernel: None,
            cpu: field("model name").map(str::to_owned),
            cpus: (cpus > 0).then_some(cpus),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpuinfo_tells_model_number_and_nesting() {
        let text =
            "processor\t: 0\nmodel name\t: AMD EPYC 9B14\nflags\t\t: fpu hypervisor lm\n\nprocessor\t: 1\n";
        let host = Host::of_cpuinfo(text);
        assert_eq!((host.cpus, host.nested), (Some(2), Some(true)));
        assert_eq!(host.cpu.as_deref(), Some("AMD EPYC 9B14"));
        let nothing = Host::of_cpuinfo("");
        assert_eq!((nothing.cpus, nothing.nested, nothing.cpu), (None, None, None));
    }
}
