//! Counters by name.

/// What KVM has counted, of a VM and of its vCPUs together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub(super) vm: Box<[(Box<str>, u64)]>,
    pub(super) vcpus: Box<[(Box<str>, u64)]>,
}

impl Counters {
    /// Of the VM; `None` where this kernel has no counter of that name.
    pub fn vm(&self, name: &str) -> Option<u64> {
        find(&self.vm, name)
    }

    /// Summed over the vCPUs.
    pub fn vcpus(&self, name: &str) -> Option<u64> {
        find(&self.vcpus, name)
    }

    /// All of the VM, in the kernel's order.
    pub fn of_vm(&self) -> impl Iterator<Item = (&str, u64)> {
        self.vm.iter().map(|(name, value)| (&**name, *value))
    }

    /// All of the vCPUs, in the kernel's order.
    pub fn of_vcpus(&self) -> impl Iterator<Item = (&str, u64)> {
        self.vcpus.iter().map(|(name, value)| (&**name, *value))
    }

    /// What has been counted since `earlier`.
    pub fn since(&self, earlier: &Counters) -> Counters {
        let less = |now: &[(Box<str>, u64)], then: &[(Box<str>, u64)]| {
            let before = |name: &str| find(then, name).unwrap_or(0);
            now.iter().map(|(name, value)| (name.clone(), value.saturating_sub(before(name)))).collect()
        };
        Counters { vm: less(&self.vm, &earlier.vm), vcpus: less(&self.vcpus, &earlier.vcpus) }
    }

    /// These counters, of a VM and of its vCPUs.
    #[cfg(test)]
    pub fn of(vm: &[(&str, u64)], vcpus: &[(&str, u64)]) -> Counters {
        let boxed =
            |pairs: &[(&str, u64)]| pairs.iter().map(|(name, value)| ((*name).into(), *value)).collect();
        Counters { vm: boxed(vm), vcpus: boxed(vcpus) }
    }
}

fn find(counters: &[(Box<str>, u64)], name: &str) -> Option<u64> {
    counters.iter().find(|(known, _)| &**known == name).map(|(_, value)| *value)
}
