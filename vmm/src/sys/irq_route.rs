//! `struct kvm_irq_routing_entry` holds its message in a union (KVM api.rst §4.52).

use devices::msi::Message;
use kvm_bindings::{
    KVM_IRQ_ROUTING_MSI, kvm_irq_routing_entry, kvm_irq_routing_entry__bindgen_ty_1, kvm_irq_routing_msi,
};

/// `gsi` sends `message`.
pub fn msi(gsi: u32, message: Message) -> kvm_irq_routing_entry {
    let msi = kvm_irq_routing_msi {
        address_lo: message.address as u32,
        address_hi: (message.address >> 32) as u32,
        data: message.data,
        ..Default::default()
    };
    kvm_irq_routing_entry {
        gsi,
        type_: KVM_IRQ_ROUTING_MSI,
        u: kvm_irq_routing_entry__bindgen_ty_1 { msi },
        ..Default::default()
    }
}

/// Whether two entries made by [`msi`] say the same.
pub fn same(a: &kvm_irq_routing_entry, b: &kvm_irq_routing_entry) -> bool {
    let words = |e: &kvm_irq_routing_entry| {
        // SAFETY: `msi` above is the only maker of these entries, so `msi` is the live member.
        let msi = unsafe { e.u.msi };
        (e.gsi, msi.address_lo, msi.address_hi, msi.data)
    };
    words(a) == words(b)
}
