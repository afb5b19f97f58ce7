//! IOAPIC pins as GSI routes.

use devices::msi::{Message, Routes};

use crate::kvm::vm::Vm;
use crate::status::say;

/// Pin n is GSI n.
pub struct Pins(pub Vm);

impl Routes for Pins {
    fn route(&mut self, line: u32, message: Option<Message>) {
        // KVM refuses a route only for want of memory; the guest then misses interrupts of this one wire.
        if let Err(error) = self.0.route(line, message) {
            say(error);
        }
    }
}
