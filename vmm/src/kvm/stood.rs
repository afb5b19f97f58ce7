//! How a vCPU stood when it was told to stop: what one asks of a guest that does not get on.

use kvm_bindings::{
    KVM_MP_STATE_HALTED, KVM_MP_STATE_INIT_RECEIVED, KVM_MP_STATE_RUNNABLE, KVM_MP_STATE_SIPI_RECEIVED,
    KVM_MP_STATE_UNINITIALIZED, kvm_lapic_state,
};

use super::vcpu::{Registers, Vcpu};

/// CR0.PE, EFER.LMA (SDM vol. 3 §2.5, §2.2.1), RFLAGS.IF.
const PROTECTED: u64 = 1;
const LONG: u64 = 1 << 10;
const INTERRUPTS: u64 = 1 << 9;
/// Vectors in service and requested: eight words of 32 bits, 16 bytes apart (SDM vol. 3 §11.8.4).
const IN_SERVICE: usize = 0x100;
const REQUESTED: usize = 0x200;

/// Registers, and what the local APIC still has for it.
#[derive(Clone, Debug)]
pub struct Stood {
    pub registers: Registers,
    /// `running`, `halted`, `waits for INIT`, `waits for SIPI`, `started`; `None`: KVM knows another.
    pub state: Option<&'static str>,
    /// Vectors that have been requested and not taken, in order.
    pub requested: Vec<u8>,
    /// Vectors that have been taken and not acknowledged.
    pub in_service: Vec<u8>,
}

impl Stood {
    /// `None` where KVM doesn't say.
    pub fn of(vcpu: &Vcpu) -> Option<Stood> {
        let lapic = vcpu.fd().get_lapic().ok()?;
        Some(Stood {
            registers: vcpu.registers()?,
            state: state(vcpu.fd().get_mp_state().ok()?.mp_state),
            requested: vectors(&lapic, REQUESTED),
            in_service: vectors(&lapic, IN_SERVICE),
        })
    }

    /// `real`, `protected` or `long` mode.
    pub fn mode(&self) -> &'static str {
        let sregs = &self.registers.sregs;
        match (sregs.efer & LONG != 0, sregs.cr0 & PROTECTED != 0) {
            (true, _) => "long",
            (_, true) => "protected",
            _ => "real",
        }
    }

    /// Its privilege level.
    pub fn ring(&self) -> u8 {
        self.registers.sregs.ss.dpl
    }

    /// Whether it takes interrupts.
    pub fn takes_interrupts(&self) -> bool {
        self.registers.regs.rflags & INTERRUPTS != 0
    }
}

fn state(number: u32) -> Option<&'static str> {
    Some(match number {
        KVM_MP_STATE_RUNNABLE => "running",
        KVM_MP_STATE_HALTED => "halted",
        KVM_MP_STATE_UNINITIALIZED => "waits for INIT",
        KVM_MP_STATE_INIT_RECEIVED => "waits for SIPI",
        KVM_MP_STATE_SIPI_RECEIVED => "started",
        _ => return None,
    })
}

fn vectors(lapic: &kvm_lapic_state, register: usize) -> Vec<u8> {
    let is_set = |vector: &u8| {
        let vector = usize::from(*vector);
        lapic.regs[register + 16 * (vector / 32) + vector % 32 / 8] as u8 & 1 << (vector % 8) != 0
    };
    (0..=u8::MAX).filter(is_set).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_is_a_bit_of_eight_words() {
        let mut lapic = kvm_lapic_state::default();
        lapic.regs[REQUESTED] = 0b10;
        lapic.regs[REQUESTED + 0x10 + 3] = 1;
        lapic.regs[REQUESTED + 0x70 + 3] = i8::MIN;
        assert_eq!(vectors(&lapic, REQUESTED), [1, 56, 255]);
        assert!(vectors(&lapic, IN_SERVICE).is_empty());
    }
}
