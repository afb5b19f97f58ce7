//! What no careful code does: accesses of any size and alignment, by any instruction, where no memory of
//! ours is; model-specific registers that may not be there; CPUs reset under what they run.

use core::arch::{asm, global_asm};

use super::gate;

/// First port that the task state's bitmap doesn't allow ring 3.
const RING0_PORTS: usize = 0x1000;

global_asm!(
    ".text",
    // wild_write(register: u32, value: u64) -> u32: whether the CPU has taken it.
    "wild_write:",
    "    mov ecx, edi",
    "    mov eax, esi",
    "    mov rdx, rsi",
    "    shr rdx, 32",
    "wild_wrmsr:",
    "    wrmsr",
    "    mov eax, 1",
    "    ret",
    // wild_read(register: u32, value: *mut u64) -> u32
    "wild_read:",
    "    mov ecx, edi",
    "wild_rdmsr:",
    "    rdmsr",
    "    shl rdx, 32",
    "    or rax, rdx",
    "    mov [rsi], rax",
    "    mov eax, 1",
    "    ret",
    // Where #GP at either instruction goes on.
    "wild_refused:",
    "    xor eax, eax",
    "    ret",
);

unsafe extern "C" {
    fn wild_write(register: u32, value: u64) -> u32;
    fn wild_read(register: u32, value: *mut u64) -> u32;
    static wild_wrmsr: u8;
    static wild_rdmsr: u8;
    static wild_refused: u8;
}

/// Where code goes on that an exception at `rip` was expected of.
pub fn expected(rip: u64) -> Option<u64> {
    let tried = [(&raw const wild_wrmsr) as u64, (&raw const wild_rdmsr) as u64];
    tried.contains(&rip).then_some((&raw const wild_refused) as u64)
}

/// How a value goes to a register, or comes from it.
#[derive(Clone, Copy, Debug)]
pub enum Access {
    Load,
    Store,
    /// A locked exchange-and-add.
    Exchange,
    /// A string of so many elements.
    Fill(u8),
}

/// An access of `width` bytes (1, 2, 4, 8 or 16) at an address where no memory of ours is.
pub fn memory(address: usize, width: usize, access: Access, value: u64) {
    macro_rules! by {
        ($word:literal, $register:tt) => {
            match access {
                // SAFETY: the caller names no memory of ours, below 4 GiB: mapped. RAX is the only register
                // of Rust's that changes.
                Access::Load => unsafe {
                    asm!(concat!("mov ", $register, ", [{}]"), in(reg) address, inout("rax") value => _, options(nostack))
                },
                // SAFETY: as above.
                Access::Store => unsafe {
                    asm!(concat!("mov [{}], ", $register), in(reg) address, in("rax") value, options(nostack))
                },
                // SAFETY: as above.
                Access::Exchange => unsafe {
                    asm!(concat!("lock xadd [{}], ", $register), in(reg) address, inout("rax") value => _, options(nostack))
                },
                // SAFETY: as above; a string is at most 255 elements, and no memory of ours comes within
                // those of what the caller names.
                Access::Fill(count) => unsafe {
                    asm!(concat!("rep stos", $word), inout("rdi") address => _, inout("rcx") u64::from(count) => _,
                         in("rax") value, options(nostack))
                },
            }
        };
    }
    match width {
        1 => by!("b", "al"),
        2 => by!("w", "ax"),
        4 => by!("d", "eax"),
        8 => by!("q", "rax"),
        _ => match access {
            // SAFETY: as above; nothing else in this kernel uses XMM registers.
            Access::Load => unsafe { asm!("movdqu xmm0, [{}]", in(reg) address, options(nostack)) },
            // SAFETY: as above.
            _ => unsafe { asm!("movdqu [{}], xmm0", in(reg) address, options(nostack)) },
        },
    }
}

/// What is done to a port.
#[derive(Clone, Copy)]
struct Port {
    port: u16,
    width: usize,
    access: Access,
    load: bool,
    value: u64,
}

/// An access of `width` bytes (1, 2 or 4) to a port: loads and stores, strings of them in either
/// direction.
pub fn port(port: u16, width: usize, access: Access, load: bool, value: u64) {
    let mut deed = Port { port, width, access, load, value };
    if usize::from(port) + width <= RING0_PORTS {
        deed.run();
    } else {
        extern "C" fn run(deed: usize) {
            // SAFETY: the caller's variable, who waits.
            unsafe { *(deed as *const Port) }.run();
        }
        gate::in_ring0(run, (&raw mut deed) as usize);
    }
}

impl Port {
    fn run(self) {
        let mut bytes = [0u64; 32];
        let buffer = bytes.as_mut_ptr() as usize;
        macro_rules! by {
            ($word:literal, $register:tt) => {
                match (self.access, self.load) {
                    // SAFETY: a string stays inside the buffer; a port changes no memory of ours.
                    (Access::Fill(count), true) => unsafe {
                        asm!(concat!("rep ins", $word), in("dx") self.port, inout("rdi") buffer => _,
                             inout("rcx") u64::from(count).min(64) => _, options(nostack))
                    },
                    // SAFETY: as above.
                    (Access::Fill(count), false) => unsafe {
                        asm!(concat!("rep outs", $word), in("dx") self.port, inout("rsi") buffer => _,
                             inout("rcx") u64::from(count).min(64) => _, options(nostack))
                    },
                    // SAFETY: as above.
                    (_, true) => unsafe {
                        asm!(concat!("in ", $register, ", dx"), in("dx") self.port, out("rax") _, options(nostack))
                    },
                    // SAFETY: as above.
                    (_, false) => unsafe {
                        asm!(concat!("out dx, ", $register), in("dx") self.port, in("rax") self.value, options(nostack))
                    },
                }
            };
        }
        bytes.fill(self.value);
        match self.width {
            1 => by!("b", "al"),
            2 => by!("w", "ax"),
            _ => by!("d", "eax"),
        }
    }
}

/// A model-specific register is written and has its old value back at once; `change` says what is
/// written instead of what was there. Whether the CPU has taken it.
pub fn disturb(register: u32, change: impl Fn(u64) -> u64) -> bool {
    struct Deed<'d> {
        register: u32,
        change: &'d dyn Fn(u64) -> u64,
        taken: bool,
    }
    extern "C" fn run(deed: usize) {
        // SAFETY: the caller's variable, who waits.
        let deed = unsafe { &mut *(deed as *mut Deed<'_>) };
        let mut old = 0;
        // SAFETY: interrupts are off, and what the register means to Rust is as it was two instructions
        // later; where the CPU refuses, `expected` goes on.
        unsafe {
            let known = wild_read(deed.register, &raw mut old) != 0;
            deed.taken = wild_write(deed.register, (deed.change)(old)) != 0;
            if known {
                wild_write(deed.register, old);
            }
        }
    }
    let mut deed = Deed { register, change: &change, taken: false };
    gate::in_ring0(run, (&raw mut deed) as usize);
    deed.taken
}

/// Writes a model-specific register that no memory, stack or descriptor depends on, if the CPU takes it.
pub fn write_if_taken(register: u32, value: u64) {
    extern "C" fn run(deed: usize) {
        // SAFETY: the caller's variable, who waits; a register of the local APIC (the caller), and where
        // the CPU refuses, `expected` goes on.
        unsafe {
            let (register, value) = *(deed as *const (u32, u64));
            wild_write(register, value);
        }
    }
    let mut deed = (register, value);
    gate::in_ring0(run, (&raw mut deed) as usize);
}
