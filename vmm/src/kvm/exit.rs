//! Why `KVM_RUN` returned: one list, with the words that the report uses.

/// A userspace exit with its operands (KVM api.rst §5), decoded once.
#[derive(Debug)]
pub enum Exit<'a> {
    /// A port access; a string instruction carries several elements of `size` bytes at once.
    Pio {
        port: u16,
        size: u8,
        write: bool,
        data: &'a mut [u8],
    },
    /// A load or store where no memory is.
    Mmio {
        address: u64,
        write: bool,
        data: &'a mut [u8],
    },
    Hlt,
    IoapicEoi(u8),
    Shutdown,
    SystemEvent(u32),
    InternalError {
        suberror: u32,
        data: Vec<u64>,
    },
    FailEntry {
        reason: u64,
        cpu: u32,
    },
    Interrupted,
    Other(u32),
}

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

impl Exit<'_> {
    /// What the ledger counts this as, and the port or address (0 where there is none).
    pub fn key(&self) -> (ExitKind, u64) {
        match self {
            Exit::Pio { port, write: false, .. } => (ExitKind::PioRead, u64::from(*port)),
            Exit::Pio { port, write: true, .. } => (ExitKind::PioWrite, u64::from(*port)),
            Exit::Mmio { address, write: false, .. } => (ExitKind::MmioRead, *address),
            Exit::Mmio { address, write: true, .. } => (ExitKind::MmioWrite, *address),
            Exit::Hlt => (ExitKind::Hlt, 0),
            Exit::IoapicEoi(vector) => (ExitKind::IoapicEoi, u64::from(*vector)),
            Exit::Shutdown => (ExitKind::Shutdown, 0),
            Exit::SystemEvent(_) => (ExitKind::SystemEvent, 0),
            Exit::InternalError { .. } => (ExitKind::InternalError, 0),
            Exit::FailEntry { .. } => (ExitKind::FailEntry, 0),
            Exit::Interrupted => (ExitKind::Interrupted, 0),
            Exit::Other(reason) => (ExitKind::Other(*reason), 0),
        }
    }
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
