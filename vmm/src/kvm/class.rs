//! Which kind of KVM this host has.

use std::path::Path;

/// The module behind `/dev/kvm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Intel's hardware virtualization.
    Vmx,
    /// AMD's.
    Svm,
    /// No hardware virtualization: ring 3 runs as it is, ring 0 is interpreted.
    Pvm,
    Unknown,
}

impl Class {
    /// From the modules that are loaded. Never from CPU flags: a host without `vmx` and `svm` may run
    /// guests all the same.
    pub fn detect() -> Class {
        Class::among(|module| Path::new("/sys/module").join(module).exists())
    }

    fn among(loaded: impl Fn(&str) -> bool) -> Class {
        match () {
            () if loaded("kvm_pvm") => Class::Pvm,
            () if loaded("kvm_intel") => Class::Vmx,
            () if loaded("kvm_amd") => Class::Svm,
            () => Class::Unknown,
        }
    }

    /// The word in the report.
    pub fn label(self) -> &'static str {
        match self {
            Class::Vmx => "vmx",
            Class::Svm => "svm",
            Class::Pvm => "pvm",
            Class::Unknown => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_tell_the_class() {
        assert_eq!(Class::among(|module| module == "kvm_amd"), Class::Svm);
        assert_eq!(Class::among(|module| module == "kvm_intel"), Class::Vmx);
        assert_eq!(Class::among(|_| false), Class::Unknown);
        // Where both are there, the interpreter serves /dev/kvm.
        assert_eq!(Class::among(|module| module != "kvm_intel"), Class::Pvm);
    }
}
