//! KVM's counters → the names of the report, and which of them may be believed.

use crate::kvm::canary::Canary;
use crate::kvm::stats::Counters;

use super::model::{Halts, Kernel};

/// One name of the section `kernel`.
struct Row {
    name: &'static str,
    /// What it is in KVM's words (arch/x86/kvm/x86.c, `kvm_vcpu_stats_desc`)…
    of: &'static str,
    /// …less this.
    less: Option<&'static str>,
    /// A counter that sits beside it in KVM: where that one moves, this one's 0 is true, too.
    witness: &'static str,
    /// Counts exits, each of them in one row only.
    exclusive: bool,
}

const fn exit(name: &'static str, of: &'static str) -> Row {
    Row { name, of, less: None, witness: of, exclusive: true }
}

const fn beside(name: &'static str, of: &'static str) -> Row {
    Row { name, of, less: None, witness: of, exclusive: false }
}

/// Exclusive are those that KVM counts in the handler of one kind of exit. The rest overlaps: an
/// emulated instruction may be an MMIO access, a string I/O or, on processors that don't say where
/// the next instruction is, any exit at all; a signal is seen after an interrupt or a halt.
///
/// A page fault that ends in emulation is an MMIO access and is counted as such, so that `page_fault`
/// is what concerned memory. `mmio` is what returned to userspace; an access that KVM answers itself
/// (local APIC, IOAPIC, ioeventfd) has no counter and stays unexplained, as CPUID and MSR do.
const ROWS: [Row; 21] = [
    exit("halt", "halt_exits"),
    exit("io", "io_exits"),
    exit("mmio", "mmio_exits"),
    exit("irq", "irq_exits"),
    exit("irq_window", "irq_window_exits"),
    Row { witness: "irq_window_exits", ..exit("nmi_window", "nmi_window_exits") },
    exit("hypercall", "hypercalls"),
    Row { less: Some("pf_emulate"), ..exit("page_fault", "pf_taken") },
    Row { witness: "irq_window_exits", ..exit("notify_window", "notify_window_exits") },
    beside("signal", "signal_exits"),
    beside("emulated", "insn_emulation"),
    Row { witness: "insn_emulation", ..beside("emulation_failed", "insn_emulation_fail") },
    Row { witness: "irq_window_exits", ..beside("request_irq", "request_irq_exits") },
    beside("irq_injected", "irq_injections"),
    Row { witness: "irq_injections", ..beside("nmi_injected", "nmi_injections") },
    beside("host_state_reload", "host_state_reload"),
    beside("fpu_reload", "fpu_reload"),
    beside("tlb_flush", "tlb_flush"),
    beside("pf_fixed", "pf_fixed"),
    Row { witness: "pf_fixed", ..beside("pf_spurious", "pf_spurious") },
    Row { witness: "exits", ..beside("directed_yield", "directed_yield_attempted") },
];

/// Which counters may be believed when they read 0.
pub struct Trust<'a> {
    pub canary: &'a Canary,
    /// Of the whole run: what has moved in it counts here, whatever the canary says.
    pub whole: &'a Counters,
}

impl Trust<'_> {
    fn moves(&self, name: &str) -> bool {
        self.canary.moves_vcpu(name) || self.whole.vcpus(name).is_some_and(|value| value > 0)
    }

    /// The counter, unless it reads 0 on a host that does not move it.
    fn value(&self, counters: &Counters, name: &str, witness: &str) -> Option<u64> {
        counters.vcpus(name).filter(|value| *value > 0 || self.moves(name) || self.moves(witness))
    }

    /// KVM's count of all exits.
    pub fn total(&self, counters: &Counters) -> Option<u64> {
        self.value(counters, "exits", "exits")
    }

    /// The section `kernel`.
    pub fn kernel(&self, counters: Option<&Counters>) -> Kernel {
        let value = |row: &Row| {
            let value = self.value(counters?, row.of, row.witness)?;
            let less = row.less.and_then(|name| counters?.vcpus(name)).unwrap_or(0);
            Some(value.saturating_sub(less))
        };
        Kernel(ROWS.iter().map(|row| (row.name, value(row))).collect())
    }

    /// The section `halts`.
    pub fn halts(&self, counters: Option<&Counters>) -> Halts {
        // One function of KVM counts all of these (virt/kvm/kvm_main.c, kvm_vcpu_halt): where one of
        // them moves, the others' zeros are true.
        let witness =
            ["halt_wait_ns", "halt_attempted_poll", "halt_wakeup"].into_iter().find(|w| self.moves(w));
        let value = |name| self.value(counters?, name, witness.unwrap_or(name));
        let poll_ns = |name| value(name).unwrap_or(0);
        Halts {
            exits: counters.and_then(|counters| self.value(counters, "halt_exits", "halt_exits")),
            poll_attempted: value("halt_attempted_poll"),
            poll_successful: value("halt_successful_poll"),
            poll_ns: value("halt_poll_fail_ns").map(|fail| fail + poll_ns("halt_poll_success_ns")),
            wait_ns: value("halt_wait_ns"),
            wakeups: value("halt_wakeup"),
        }
    }

    /// Pages that KVM has mapped, by size: `pages_4k`, `pages_2m`, `pages_1g`.
    pub fn pages(&self, name: &str) -> Option<u64> {
        const SIZES: [&str; 3] = ["pages_4k", "pages_2m", "pages_1g"];
        let moves = |size: &str| self.canary.moves_vm(size) || self.whole.vm(size).is_some_and(|n| n > 0);
        self.whole.vm(name).filter(|_| SIZES.iter().any(|size| moves(size)))
    }
}

/// The names of the section `kernel`, and whether each moved for the canary.
pub fn countable(canary: &Canary) -> impl Iterator<Item = (&'static str, bool)> {
    ROWS.iter().map(|row| (row.name, canary.moves_vcpu(row.of) || canary.moves_vcpu(row.witness)))
}

/// The names whose counts are disjoint parts of all exits.
pub fn exclusive() -> impl Iterator<Item = &'static str> {
    ROWS.iter().filter(|row| row.exclusive).map(|row| row.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zero_is_believed_only_where_the_counter_moves() {
        let canary = Canary::saw(&["pages_4k"], &["io_exits", "irq_window_exits", "halt_wait_ns"]);
        let whole = Counters::of(
            &[("pages_4k", 0), ("pages_2m", 0)],
            &[
                ("io_exits", 0),
                ("mmio_exits", 0),
                ("halt_exits", 5),
                ("nmi_window_exits", 0),
                ("halt_wait_ns", 0),
                ("halt_attempted_poll", 0),
            ],
        );
        let trust = Trust { canary: &canary, whole: &whole };
        let kernel = trust.kernel(Some(&whole));
        assert_eq!(kernel.get("io"), Some(0), "the canary saw it move");
        assert_eq!(kernel.get("mmio"), None, "nobody saw it move");
        assert_eq!(kernel.get("nmi_window"), Some(0), "its neighbour moves");
        assert_eq!(kernel.get("halt"), Some(5));
        let phase = trust.kernel(Some(&Counters::of(&[], &[("halt_exits", 0)])));
        assert_eq!(phase.get("halt"), Some(0), "it moved in another phase");
        assert_eq!(phase.get("io"), None, "no counter of that name");
        let halts = trust.halts(Some(&whole));
        assert_eq!((halts.poll_attempted, halts.wait_ns, halts.wakeups), (Some(0), Some(0), None));
        assert_eq!((trust.pages("pages_2m"), trust.pages("pages_1g")), (Some(0), None));
    }

    #[test]
    fn without_counters_all_is_null() {
        let trust = Trust { canary: &Canary::default(), whole: &Counters::default() };
        assert!(trust.kernel(None).0.iter().all(|(_, value)| value.is_none()));
        assert_eq!(trust.halts(None).wait_ns, None);
    }

    #[test]
    fn a_fault_that_was_mmio_is_no_page_fault() {
        let whole = Counters::of(&[], &[("pf_taken", 13), ("pf_emulate", 1)]);
        let trust = Trust { canary: &Canary::default(), whole: &whole };
        assert_eq!(trust.kernel(Some(&whole)).get("page_fault"), Some(12));
    }
}
