//! What the canary does: seventy instructions, by hand, in 64-bit mode, at fixed addresses.
//!
//! Each step is followed by a write to [`DONE`]. No register is ever set by the monitor while the
//! program runs: what a step needs (a timer, an interrupt, a flag) is prepared before it, at the
//! exit that ended the one before.

/// Steps write here.
pub const PORT: u16 = 0xf0;
/// The end of each step.
pub const DONE: u16 = 0xf1;

/// Bytes of memory, from 0.
pub const MEMORY: usize = 0x2_0000;
pub const PML4: u64 = 0x1000;
pub const PDPT: u64 = 0x2000;
pub const PD: u64 = 0x3000;
pub const GDT: u64 = 0x4000;
pub const IDT: u64 = 0x5000;
/// Where the local APIC is seen: its page of 2 MiB, 1 GiB below its place.
pub const LAPIC: u64 = 0x3ee0_0000;
/// The step `Spin` ends when the byte here is not 0.
pub const FLAG: u64 = 0x7000;
/// The step `Halt` does nothing when the byte here is not 0.
pub const AWAKE: u64 = 0x7001;
pub const STACK_TOP: u64 = 0x9000;
/// Of the one interrupt handler, which is a single `iretq`: the canary never acknowledges, its local
/// APIC is set anew for each interrupt.
pub const HANDLER: u64 = 0x6000;
/// The vector of that interrupt.
pub const VECTOR: u8 = 0x40;

/// A known activity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Sixteen port writes.
    Ports,
    /// Eight stores where no memory is.
    Stores,
    /// Eight pages written for the first time.
    Pages,
    /// One HLT, ended by the local APIC's timer after so many nanoseconds.
    Halt { ns: u32 },
    /// Interrupts are opened while one is waiting.
    Window,
    /// One read of a model-specific register.
    Msr,
    /// One interrupt to itself, by the local APIC.
    Ipi,
    /// A loop that ends after the host was interrupted.
    Spin,
    /// One hypercall. The last step, because not every kind of host survives it.
    Hypercall,
}

/// In this order. A host on which the vCPU did not fall asleep within the first timer is slow, and
/// gets a longer one.
pub const STEPS: [Step; 11] = [
    Step::Ports,
    Step::Stores,
    Step::Pages,
    Step::Halt { ns: 300_000 },
    Step::Halt { ns: 2_000_000 },
    Step::Halt { ns: 10_000_000 },
    Step::Window,
    Step::Msr,
    Step::Ipi,
    Step::Spin,
    Step::Hypercall,
];

impl Step {
    #[rustfmt::skip]
    const fn code(self) -> &'static [u8] {
        match self {
            Step::Ports => &[
                0xb9, 16, 0, 0, 0,                          //    mov  ecx, 16
                0xe6, PORT as u8,                           // 1: out  PORT, al
                0xff, 0xc9,                                 //    dec  ecx
                0x75, 0xfa,                                 //    jnz  1b
            ],
            Step::Stores => &[
                0xb9, 8, 0, 0, 0,                           //    mov  ecx, 8
                0xbf, 0, 0, 0x10, 0,                        //    mov  edi, 0x100000
                0x89, 0x07,                                 // 1: mov  [rdi], eax
                0xff, 0xc9,                                 //    dec  ecx
                0x75, 0xfa,                                 //    jnz  1b
            ],
            Step::Pages => &[
                0xb9, 8, 0, 0, 0,                           //    mov  ecx, 8
                0xbf, 0, 0, 1, 0,                           //    mov  edi, 0x10000
                0x89, 0x07,                                 // 1: mov  [rdi], eax
                0x81, 0xc7, 0, 0x10, 0, 0,                  //    add  edi, 0x1000
                0xff, 0xc9,                                 //    dec  ecx
                0x75, 0xf4,                                 //    jnz  1b
            ],
            Step::Halt { .. } => &[
                0x80, 0x3c, 0x25, 1, 0x70, 0, 0, 0,         //    cmp  byte [AWAKE], 0
                0x75, 0x03,                                 //    jne  1f
                0xfb, 0xf4, 0xfa,                           //    sti; hlt; cli
                                                            // 1:
            ],
            Step::Window => &[
                0xfb, 0x90, 0x90, 0xfa,                     //    sti; nop; nop; cli
            ],
            Step::Msr => &[
                0xb9, 0x1b, 0, 0, 0,                        //    mov  ecx, 0x1b
                0x0f, 0x32,                                 //    rdmsr
            ],
            Step::Ipi => &[
                0xbf, 0, 3, 0xe0, 0x3e,                     //    mov  edi, LAPIC + 0x300
                0xc7, 0x07, VECTOR, 0, 4, 0,                //    mov  dword [rdi], self | VECTOR
            ],
            Step::Spin => &[
                0x80, 0x3c, 0x25, 0, 0x70, 0, 0, 0,         // 1: cmp  byte [FLAG], 0
                0x74, 0xf6,                                 //    je   1b
            ],
            Step::Hypercall => &[
                0xb8, 1, 0, 0, 0,                           //    mov  eax, KVM_HC_VAPIC_POLL_IRQ
                0x0f, 0x01, 0xc1,                           //    vmcall (on AMD, KVM makes it vmmcall)
            ],
        }
    }
}

/// Where the program begins.
pub const ENTRY: u64 = HANDLER + 16;

/// The bytes at [`ENTRY`].
pub fn code() -> Vec<u8> {
    let mut code = Vec::new();
    for step in STEPS {
        code.extend(step.code());
        code.extend([0xe6, DONE as u8]); // out DONE, al
    }
    code
}
