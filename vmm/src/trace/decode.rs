//! Reason and detail, in words.

use super::program::kind;
use super::reasons::{SVM, SVM_RANGES, VMX};
use super::rows::{Detail, Reason};

/// `isa` of the tracepoint (KVM_ISA_VMX and KVM_ISA_SVM in arch/x86/include/asm/kvm_host.h).
const ISA_VMX: u8 = 1;
const ISA_SVM: u8 = 2;
/// A VMX reason's bit 31: the entry failed (SDM volume 3, table 25-17).
const FAILED_ENTRY: u32 = 1 << 31;

/// Reasons for which KVM emulates a load or store, if it is one.
const FAULTS: &[(u8, u32)] = &[(ISA_VMX, 48), (ISA_VMX, 49), (ISA_SVM, 0x400)];
const HALTS: &[(u8, u32)] =
    &[(ISA_VMX, 12), (ISA_VMX, 36), (ISA_SVM, 0x78), (ISA_SVM, 0x8b), (ISA_SVM, 0xa6)];

/// What the report calls it. A nested page fault is either MMIO or memory; I/O and MSR say which way.
pub fn reason(reason: Reason, detail: Option<Detail>) -> String {
    let way = match detail.map(|detail| detail.kind) {
        Some(kind::PIO_READ | kind::MMIO_READ | kind::MSR_READ) => " read",
        Some(kind::PIO_WRITE | kind::MMIO_WRITE | kind::MSR_WRITE) => " write",
        _ => "",
    };
    let mmio = matches!(detail.map(|detail| detail.kind), Some(kind::MMIO_READ | kind::MMIO_WRITE));
    match reason {
        Reason::Other => "other".into(),
        Reason::None => {
            let what = match detail.map(|detail| detail.kind) {
                Some(kind::PIO_READ | kind::PIO_WRITE) => "I/O",
                Some(kind::MSR_READ | kind::MSR_WRITE) => "MSR",
                _ => "MMIO",
            };
            format!("{what}{way}")
        }
        Reason::Exit { isa, number } if FAULTS.contains(&(isa, number)) => {
            if mmio {
                format!("MMIO{way}")
            } else {
                format!("{}: memory", name(isa, number))
            }
        }
        // "RDMSR" and "WRMSR" say it already.
        Reason::Exit { isa: ISA_VMX, number: number @ (31 | 32) } => name(ISA_VMX, number),
        Reason::Exit { isa, number } => format!("{}{way}", name(isa, number)),
    }
}

/// Whether it is a halt: what its vCPU waits for then is not the exit's cost.
pub fn is_halt(reason: Reason) -> bool {
    matches!(reason, Reason::Exit { isa, number } if HALTS.contains(&(isa, number)))
}

fn name(isa: u8, number: u32) -> String {
    let find = |table: &[(u32, &str)], number| {
        table.iter().find(|(known, _)| *known == number).map(|(_, name)| (*name).to_owned())
    };
    match isa {
        ISA_VMX => {
            let basic = number & 0xffff;
            let name = find(VMX, basic).unwrap_or_else(|| format!("VMX reason {basic}"));
            if number & FAILED_ENTRY != 0 { format!("failed entry: {name}") } else { name }
        }
        ISA_SVM => find(SVM, number).unwrap_or_else(|| {
            let range = SVM_RANGES.iter().find(|(first, len, _)| (*first..first + len).contains(&number));
            range.map_or_else(
                || format!("SVM code {number:#x}"),
                |(first, _, what)| format!("{what}{}", number - first),
            )
        }),
        isa => format!("reason {number:#x} of instruction set {isa}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(isa: u8, number: u32, kind: u8) -> String {
        reason(Reason::Exit { isa, number }, (kind != 0).then_some(Detail { kind, address: 0 }))
    }

    #[test]
    fn both_makers_by_the_same_words_where_they_mean_the_same() {
        for (isa, number) in [(ISA_VMX, 30), (ISA_SVM, 0x7b)] {
            assert_eq!(words(isa, number, kind::PIO_WRITE), "I/O write");
        }
        for (isa, number) in [(ISA_VMX, 49), (ISA_VMX, 48), (ISA_SVM, 0x400)] {
            assert_eq!(words(isa, number, kind::MMIO_READ), "MMIO read");
        }
        assert_eq!(words(ISA_VMX, 48, 0), "EPT violation: memory");
        assert_eq!(words(ISA_SVM, 0x400, 0), "nested page fault: memory");
        assert_eq!(
            (words(ISA_VMX, 32, kind::MSR_WRITE), words(ISA_SVM, 0x7c, kind::MSR_WRITE)),
            ("WRMSR".into(), "MSR write".into())
        );
    }

    /// SDM volume 3, table C-1, what KVM sees of it in an ordinary guest; 35, 38 and 42 are not in use.
    #[test]
    fn intel_reasons_are_those_of_the_manual() {
        let manual = [
            (0, "exception or NMI"),
            (1, "external interrupt"),
            (2, "triple fault"),
            (7, "interrupt window"),
            (10, "CPUID"),
            (12, "HLT"),
            (18, "VMCALL"),
            (28, "control-register access"),
            (30, "I/O"),
            (31, "RDMSR"),
            (32, "WRMSR"),
            (40, "PAUSE"),
            (44, "APIC access"),
            (45, "virtualized EOI"),
            (48, "EPT violation: memory"),
            (49, "EPT misconfiguration: memory"),
            (52, "preemption timer"),
            (54, "WBINVD"),
            (55, "XSETBV"),
            (56, "APIC write"),
        ];
        for (number, text) in manual {
            assert_eq!(words(ISA_VMX, number, 0), text);
            // Bit 27: from an enclave. Bit 31: the entry failed.
            assert_eq!(name(ISA_VMX, number | 1 << 27), name(ISA_VMX, number));
            assert_eq!(name(ISA_VMX, number | 1 << 31), format!("failed entry: {}", name(ISA_VMX, number)));
        }
        for number in [35, 38, 42, 999] {
            assert_eq!(words(ISA_VMX, number, 0), format!("VMX reason {number}"));
        }
    }

    #[test]
    fn what_no_table_has_is_a_number() {
        assert_eq!(words(ISA_SVM, 0x4e, 0), "exception 14");
        assert_eq!(words(ISA_SVM, 0x14, 0), "write of CR4");
        assert_eq!(words(ISA_SVM, 0x999, 0), "SVM code 0x999");
        assert_eq!(words(ISA_VMX, 0x8000_0021, 0), "failed entry: invalid guest state");
        assert_eq!(words(7, 3, 0), "reason 0x3 of instruction set 7");
    }

    #[test]
    fn halts_are_idle() {
        assert!(is_halt(Reason::Exit { isa: ISA_VMX, number: 12 }));
        assert!(is_halt(Reason::Exit { isa: ISA_SVM, number: 0x78 }));
        assert!(!is_halt(Reason::Exit { isa: ISA_SVM, number: 12 }));
    }
}
