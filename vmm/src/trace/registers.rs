//! Model-specific registers that guests write often, by name (SDM volume 4; APM volume 2, appendix A;
//! KVM msr.rst).

const NAMES: &[(u32, &str)] = &[
    (0x10, "TSC"),
    (0x1b, "APIC base"),
    (0x3a, "feature control"),
    (0x3b, "TSC adjust"),
    (0x48, "SPEC_CTRL"),
    (0x49, "PRED_CMD"),
    (0x79, "microcode update"),
    (0x8b, "microcode revision"),
    (0xc1, "PMC0"),
    (0xce, "platform info"),
    (0xfe, "MTRR capabilities"),
    (0x10a, "architecture capabilities"),
    (0x10b, "FLUSH_CMD"),
    (0x140, "MISC_FEATURES_ENABLES"),
    (0x174, "SYSENTER_CS"),
    (0x175, "SYSENTER_ESP"),
    (0x176, "SYSENTER_EIP"),
    (0x179, "machine-check capabilities"),
    (0x17a, "machine-check status"),
    (0x186, "PERFEVTSEL0"),
    (0x1a0, "MISC_ENABLE"),
    (0x1d9, "DEBUGCTL"),
    (0x277, "PAT"),
    (0x2ff, "MTRR default type"),
    (0x38d, "fixed counter control"),
    (0x38f, "performance counter control"),
    (0x6e0, "TSC deadline"),
    (0x802, "APIC ID"),
    (0x803, "APIC version"),
    (0x808, "APIC task priority"),
    (0x80b, "EOI"),
    (0x80d, "APIC logical destination"),
    (0x80f, "APIC spurious vector"),
    (0x828, "APIC error status"),
    (0x830, "ICR: IPI"),
    (0x832, "APIC timer vector"),
    (0x838, "APIC timer count"),
    (0x839, "APIC timer value"),
    (0x83e, "APIC timer divider"),
    (0x83f, "self IPI"),
    (0xda0, "XSS"),
    (0x11, "KVM wall clock, old"),
    (0x12, "KVM clock, old"),
    (0x4b56_4d00, "KVM wall clock"),
    (0x4b56_4d01, "KVM clock"),
    (0x4b56_4d02, "KVM asynchronous faults"),
    (0x4b56_4d03, "KVM steal time"),
    (0x4b56_4d04, "KVM EOI"),
    (0x4b56_4d05, "KVM poll control"),
    (0x4b56_4d06, "KVM asynchronous fault vector"),
    (0x4b56_4d07, "KVM asynchronous fault end"),
    (0xc000_0080, "EFER"),
    (0xc000_0081, "STAR"),
    (0xc000_0082, "LSTAR"),
    (0xc000_0083, "CSTAR"),
    (0xc000_0084, "SYSCALL mask"),
    (0xc000_0100, "FS base"),
    (0xc000_0101, "GS base"),
    (0xc000_0102, "kernel GS base"),
    (0xc000_0103, "TSC_AUX"),
    (0xc001_0015, "HWCR"),
    (0xc001_0117, "VM_HSAVE_PA"),
    (0xc001_011f, "VIRT_SPEC_CTRL"),
    (0xc001_1029, "DE_CFG"),
];

/// The register's name; its number where it has none here.
pub fn name(number: u64) -> String {
    let known = NAMES.iter().find(|(register, _)| u64::from(*register) == number);
    known.map_or_else(|| format!("MSR {number:#x}"), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ones_that_matter_have_names() {
        let named = [0x830, 0x80b, 0x6e0].map(name);
        assert_eq!(named, ["ICR: IPI", "EOI", "TSC deadline"]);
        assert_eq!(name(0x1234), "MSR 0x1234");
    }
}
