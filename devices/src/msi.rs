//! Message-signalled interrupts: a store that reaches a local APIC (SDM vol. 3, 11.11).

/// The store that is the interrupt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Message {
    pub address: u64,
    pub data: u32,
}

/// Who turns event fds into interrupts: the vmm, by irqfd and a GSI route.
pub trait Routes: Send {
    /// Interrupt `line` (counted by the device: an IOAPIC pin, an MSI-X vector) sends `message` from
    /// now on; `None`: it sends nothing.
    fn route(&mut self, line: u32, message: Option<Message>);
}
