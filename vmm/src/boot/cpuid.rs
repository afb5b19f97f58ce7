//! What CPUID tells the guest: KVM's own list, with the topology that `--vcpus` means and the
//! paravirtual features that `--pv` asks for.

use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

use crate::config::Pv;

/// Everything that shapes the list, the same for all vCPUs.
#[derive(Clone, Debug)]
pub struct Shape {
    pub vcpus: u8,
    /// KVM_CAP_TSC_DEADLINE_TIMER: KVM does not list the bit by itself.
    pub tsc_deadline: bool,
    /// MWAIT doesn't exit, so the guest may be told of it.
    pub mwait: bool,
    pub pv: Pv,
}

/// Key of `--pv`, bit, and what was asked of it.
pub type PvFeature = (&'static str, u32, fn(&Pv) -> Option<bool>);

/// KVM's feature bits in leaf 0x4000_0001, EAX (KVM cpuid.rst).
pub const PV_FEATURES: [PvFeature; 6] = [
    ("ipi", 11, |pv| pv.ipi),
    ("eoi", 6, |pv| pv.eoi),
    ("tlb", 9, |pv| pv.tlb),
    ("yield", 13, |pv| pv.yield_),
    ("steal", 5, |pv| pv.steal),
    ("unhalt", 7, |pv| pv.unhalt),
];
const KVM_FEATURES: u32 = 0x4000_0001;

const ECX1_MONITOR: u32 = 1 << 3;
const ECX1_X2APIC: u32 = 1 << 21;
const ECX1_TSC_DEADLINE: u32 = 1 << 24;
const ECX1_HYPERVISOR: u32 = 1 << 31;
const EDX1_HTT: u32 = 1 << 28;
/// AMD performance counter extensions, leaf 0x8000_0001, ECX.
const AMD_PERFCTR: u32 = 1 << 23 | 1 << 24 | 1 << 28;

/// Bits of an APIC ID that tell cores of one package apart.
fn core_bits(vcpus: u8) -> u32 {
    u32::from(vcpus).next_power_of_two().trailing_zeros()
}

/// The list without a vCPU's own numbers in it: one package, a core a vCPU, one thread a core.
pub fn shape(supported: &CpuId, shape: &Shape) -> Vec<kvm_cpuid_entry2> {
    let n = u32::from(shape.vcpus);
    let bits = core_bits(shape.vcpus);
    let mut list: Vec<kvm_cpuid_entry2> =
        supported.as_slice().iter().copied().filter(|e| !matches!(e.function, 0xb | 0x1f)).collect();
    for entry in &mut list {
        match entry.function {
            0x1 => {
                entry.ebx = entry.ebx & 0xff00_ffff | n << 16;
                entry.ecx |= ECX1_HYPERVISOR | ECX1_X2APIC;
                set(&mut entry.ecx, ECX1_TSC_DEADLINE, shape.tsc_deadline);
                set(&mut entry.ecx, ECX1_MONITOR, shape.mwait);
                set(&mut entry.edx, EDX1_HTT, n > 1);
            }
            // Caches (Intel 0x4, AMD 0x8000_001d): the last level is shared, the others are a core's own.
            0x4 | 0x8000_001d if entry.eax & 0x1f != 0 => {
                let sharing = if entry.eax >> 5 & 7 >= 3 { n } else { 1 };
                entry.eax = entry.eax & 0x3fff | (sharing - 1) << 14;
                if entry.function == 0x4 {
                    entry.eax |= ((1 << bits) - 1).min(0x3f) << 26;
                }
            }
            // Performance monitoring is not passed through: no counter to probe, no MSR to save.
            0xa => (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0),
            0x8000_0001 => entry.ecx &= !AMD_PERFCTR,
            0x8000_0008 => entry.ecx = (n - 1) & 0xff | bits << 12,
            0x8000_001e => (entry.ebx, entry.ecx) = (entry.ebx & !0xffff, 0),
            KVM_FEATURES => {
                for (_, bit, asked) in PV_FEATURES {
                    // `on` can't add what KVM doesn't offer; the report says so.
                    if asked(&shape.pv) == Some(false) {
                        entry.eax &= !(1 << bit);
                    }
                }
            }
            _ => {}
        }
    }
    list.extend([topology(0, 0, 1, 1), topology(1, bits, n, 2), topology(2, 0, 0, 0)]);
    list
}

/// Puts the numbers of vCPU `id` into the list.
pub fn number(list: &mut [kvm_cpuid_entry2], id: u8) {
    let id = u32::from(id);
    for entry in list {
        match entry.function {
            0x1 => entry.ebx = entry.ebx & 0x00ff_ffff | id << 24,
            0xb => entry.edx = id,
            0x8000_001e => {
                entry.eax = id;
                entry.ebx = entry.ebx & !0xff | id & 0xff;
            }
            _ => {}
        }
    }
}

/// Leaf 0xb, level `level` of `kind` (1 thread, 2 core): SDM vol. 2, CPUID.
fn topology(level: u32, shift: u32, count: u32, kind: u32) -> kvm_cpuid_entry2 {
    kvm_cpuid_entry2 {
        function: 0xb,
        index: level,
        flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax: shift,
        ebx: count,
        ecx: level | kind << 8,
        ..Default::default()
    }
}

fn set(register: &mut u32, bit: u32, on: bool) {
    if on { *register |= bit } else { *register &= !bit }
}

/// Leaf 0x4000_0001 EAX as it stands in `list`: what the guest sees of KVM.
pub fn kvm_features(list: &[kvm_cpuid_entry2]) -> u32 {
    list.iter().find(|e| e.function == KVM_FEATURES).map_or(0, |e| e.eax)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supported() -> CpuId {
        let leaf = |function, index, eax| kvm_cpuid_entry2 { function, index, eax, ..Default::default() };
        CpuId::from_entries(&[
            leaf(0x1, 0, 0),
            leaf(0x4, 0, 1 | 1 << 5),
            leaf(0x4, 3, 3 | 3 << 5),
            leaf(0xb, 0, 7),
            leaf(KVM_FEATURES, 0, u32::MAX),
            leaf(0x8000_0008, 0, 0),
        ])
        .unwrap()
    }

    fn shaped(vcpus: u8, pv: Pv) -> Vec<kvm_cpuid_entry2> {
        shape(&supported(), &Shape { vcpus, tsc_deadline: true, mwait: false, pv })
    }

    fn find(list: &[kvm_cpuid_entry2], function: u32, index: u32) -> kvm_cpuid_entry2 {
        *list.iter().find(|e| e.function == function && e.index == index).unwrap()
    }

    #[test]
    fn one_package_of_single_threaded_cores() {
        let mut list = shaped(6, Pv::default());
        number(&mut list, 5);
        assert_eq!(find(&list, 0x1, 0).ebx >> 16, 5 << 8 | 6);
        assert_eq!(find(&list, 0xb, 0).ebx, 1);
        let cores = find(&list, 0xb, 1);
        assert_eq!((cores.eax, cores.ebx, cores.edx), (3, 6, 5));
        assert_eq!(find(&list, 0x8000_0008, 0).ecx, 3 << 12 | 5);
    }

    #[test]
    fn only_the_last_level_cache_is_shared() {
        let list = shaped(4, Pv::default());
        assert_eq!(find(&list, 0x4, 0).eax >> 14 & 0xfff, 0);
        assert_eq!(find(&list, 0x4, 3).eax >> 14 & 0xfff, 3);
    }

    #[test]
    fn pv_features_can_be_hidden() {
        let list = shaped(1, Pv { ipi: Some(false), steal: Some(true), ..Pv::default() });
        let seen = kvm_features(&list);
        assert_eq!(seen >> 11 & 1, 0);
        assert_eq!(seen >> 5 & 1, 1);
    }
}
