//! Why `KVM_RUN` returned: one list, with the words that the report uses.

/// A userspace exit, without its operands (KVM api.rst §5, `exit_reason`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExitKind {
    /// KVM_EXIT_IO, the guest reads a port.
    PioRead,
    /// KVM_EXIT_IO, the guest writes a port.
    PioWrite,
    /// KVM_EXIT_MMIO, a load.
    MmioRead,
    /// KVM_EXIT_MMIO, a store.
    MmioWrite,
    /// KVM_EXIT_HLT: only without an in-kernel local APIC.
    Hlt,
    /// KVM_EXIT_IOAPIC_EOI: a level-triggered pin of the split irqchip was acknowledged.
    IoapicEoi,
    /// KVM_EXIT_SHUTDOWN: triple fault.
    Shutdown,
    /// KVM_EXIT_SYSTEM_EVENT.
    SystemEvent,
    /// KVM_EXIT_INTERNAL_ERROR.
    InternalError,
    /// KVM_EXIT_FAIL_ENTRY.
    FailEntry,
    /// KVM_EXIT_INTR, or EINTR: a signal was waiting.
    Interrupted,
    /// Any other reason, by its number.
    Other(u32),
}

impl ExitKind {
    /// The word in the report's `reason` column.
    pub fn label(self) -> String {
        match self {
            ExitKind::PioRead => "io-read".into(),
            ExitKind::PioWrite => "io-write".into(),
            ExitKind::MmioRead => "mmio-read".into(),
            ExitKind::MmioWrite => "mmio-write".into(),
            ExitKind::Hlt => "halt".into(),
            ExitKind::IoapicEoi => "ioapic-eoi".into(),
            ExitKind::Shutdown => "shutdown".into(),
            ExitKind::SystemEvent => "system-event".into(),
            ExitKind::InternalError => "internal-error".into(),
            ExitKind::FailEntry => "fail-entry".into(),
            ExitKind::Interrupted => "interrupted".into(),
            ExitKind::Other(reason) => format!("kvm-exit-{reason}"),
        }
    }
}
