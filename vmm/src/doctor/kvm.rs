//! KVM itself: whether a machine runs, and which of its mechanisms are there.

use kvm_bindings::KVM_X86_DISABLE_EXITS_HLT;
use kvm_ioctls::Kvm;

use super::model::{Finding, Verdict};
use super::root::Root;
use crate::kvm::canary::Canary;
use crate::kvm::class::Class;
use crate::kvm::vm::{Abilities, Error};
use crate::status::{Fatal, Status};

const AREA: &str = "kvm";

type Opened = Result<(Kvm, Abilities), Error>;

/// How the program ends: well, if a machine of a few instructions has run.
pub fn status(opened: &Opened, canary: &Canary) -> Status {
    match (opened, &canary.cut_short) {
        (Err(error), _) => error.status(),
        (Ok(_), Some(_)) => Status::NoKvm,
        (Ok(_), None) => Status::Guest(0),
    }
}

pub fn findings(root: &Root, opened: &Opened, class: Class, canary: &Canary) -> Vec<Finding> {
    let (kvm, abilities) = match opened {
        Ok(opened) => opened,
        Err(error) => return vec![closed(error)],
    };
    let open = format!("opened · API {} · up to {} vCPUs", kvm.get_api_version(), kvm.get_max_vcpus());
    let mut findings = vec![Finding::good(AREA, "/dev/kvm", open), kind(class), runs(canary)];
    findings.extend(paging(root, class));
    findings.push(halt_poll(root, abilities));
    findings.push(idle(abilities, class));
    findings.extend(interrupts(root, class));
    findings
}

fn closed(error: &Error) -> Finding {
    let remedy = error.remedy().unwrap_or("run on a kernel of 2021 or later, on a host that has KVM");
    Finding::good(AREA, "/dev/kvm", error.to_string()).mend(Verdict::Fatal, remedy)
}

fn kind(class: Class) -> Finding {
    let found = |text: &str| Finding::good(AREA, "kind", format!("{}: {text}", class.label()));
    match class {
        Class::Vmx => found("Intel's hardware virtualization"),
        Class::Svm => found("AMD's hardware virtualization"),
        Class::Pvm => found("no hardware virtualization: ring 3 runs as it is, ring 0 is interpreted").mend(
            Verdict::Lacks,
            "a stock Linux needs a host with vmx or svm; here the built-in kernel runs, with ring=3",
        ),
        Class::Unknown => found("neither kvm_intel nor kvm_amd is a loaded module")
            .mend(Verdict::Tune, "look in /proc/config.gz for what is built in; reports say unknown"),
    }
}

fn runs(canary: &Canary) -> Finding {
    match &canary.cut_short {
        None => Finding::good(AREA, "machine", "one of sixty instructions has run"),
        Some(why) => Finding::good(AREA, "machine", format!("one of sixty instructions did not end: {why}"))
            .mend(Verdict::Fatal, "see dmesg for what KVM says of it"),
    }
}

/// The host is a machine of somebody else's.
pub fn nested() -> Finding {
    let found = "this host is a virtual machine itself: each exit may cost several of the host's below";
    Finding::good(AREA, "nesting", found).mend(Verdict::Tune, "measure on bare metal for times that count")
}

/// Two-dimensional paging, without which each page table of the guest is shadowed.
fn paging(root: &Root, class: Class) -> Option<Finding> {
    let (module, name) = match class {
        Class::Vmx => ("kvm_intel", "ept"),
        Class::Svm => ("kvm_amd", "npt"),
        Class::Pvm | Class::Unknown => return None,
    };
    let on = switch(root, module, name)?;
    let found = Finding::good(AREA, "paging", format!("{name} {}", word(on)));
    let remedy = format!("modprobe -r {module}; modprobe {module} {name}=1");
    Some(if on { found } else { found.mend(Verdict::Tune, remedy) })
}

/// Interrupts and IPIs without exits.
fn interrupts(root: &Root, class: Class) -> Option<Finding> {
    let (module, name) = match class {
        Class::Vmx => ("kvm_intel", "enable_apicv"),
        Class::Svm => ("kvm_amd", "avic"),
        Class::Pvm | Class::Unknown => return None,
    };
    let on = switch(root, module, name)?;
    let found = Finding::good(AREA, "interrupts", format!("{name} {}", word(on)));
    let remedy = format!("where the processor has it: modprobe -r {module}; modprobe {module} {name}=1");
    Some(if on { found } else { found.mend(Verdict::Tune, remedy) })
}

fn switch(root: &Root, module: &str, name: &str) -> Option<bool> {
    let text = root.read(format!("sys/module/{module}/parameters/{name}"))?;
    Some(matches!(text.as_str(), "Y" | "1"))
}

fn word(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

fn halt_poll(root: &Root, abilities: &Abilities) -> Finding {
    let default = root.number("sys/module/kvm/parameters/halt_poll_ns");
    let default = default.map_or("unknown".into(), |ns| format!("{ns} ns"));
    let found = Finding::good(AREA, "halt polling", format!("by default {default}"));
    match abilities.halt_poll {
        true => found,
        false => found.mend(Verdict::Lacks, "--halt-poll needs Linux 5.11 or later"),
    }
}

fn idle(abilities: &Abilities, class: Class) -> Finding {
    let halts = abilities.disable_exits & u64::from(KVM_X86_DISABLE_EXITS_HLT) != 0;
    match (halts, class) {
        (true, Class::Pvm) => Finding::good(AREA, "native idle", "granted, and without effect")
            .mend(Verdict::Lacks, "--idle=native needs a host with vmx or svm"),
        (true, _) => Finding::good(AREA, "native idle", "HLT need not exit"),
        (false, _) => Finding::good(AREA, "native idle", "this KVM keeps every HLT for itself")
            .mend(Verdict::Lacks, "--idle=native needs another host: one with mwait, or Linux 4.17 or later"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::root::tests::Tree;
    use super::*;

    #[test]
    fn what_cannot_be_opened_is_fatal_and_says_what_mends_it() {
        for (errno, status, remedy) in [
            (libc::ENOENT, 69, "load kvm_intel or kvm_amd"),
            (libc::ENODEV, 69, "load kvm_intel or kvm_amd"),
            (libc::EACCES, 77, "usermod -aG kvm"),
            (libc::EIO, 69, "a host that has KVM"),
        ] {
            let opened = Err(Error::Open(vmm_sys_util::errno::Error::new(errno)));
            let tree = Tree::new("closed", &[]);
            let findings = findings(&tree.0, &opened, Class::Svm, &Canary::default());
            let [finding] = findings.as_slice() else { panic!("{findings:?}") };
            assert_eq!(finding.verdict, Verdict::Fatal);
            assert!(finding.remedy.as_ref().unwrap().contains(remedy), "{finding:?}");
            assert_eq!(super::status(&opened, &Canary::default()).code(), status);
        }
    }

    #[test]
    fn parameters_of_the_module_tell_its_mechanisms() {
        let files = [
            ("sys/module/kvm_amd/parameters/npt", "Y\n"),
            ("sys/module/kvm_amd/parameters/avic", "N\n"),
            ("sys/module/kvm/parameters/halt_poll_ns", "200000\n"),
        ];
        let tree = Tree::new("mechanisms", &files);
        assert_eq!(paging(&tree.0, Class::Svm).unwrap(), Finding::good(AREA, "paging", "npt on"));
        assert_eq!(paging(&tree.0, Class::Vmx), None);
        assert_eq!(interrupts(&tree.0, Class::Svm).unwrap().verdict, Verdict::Tune);
        let abilities = Abilities { max_vcpus: 8, tsc_deadline: true, disable_exits: 0, halt_poll: false };
        let polling = halt_poll(&tree.0, &abilities);
        assert_eq!((polling.found.as_str(), polling.verdict), ("by default 200000 ns", Verdict::Lacks));
        assert_eq!(idle(&abilities, Class::Svm).verdict, Verdict::Lacks);
    }
}
