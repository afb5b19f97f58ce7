//! Instructions, counted one by one: the trap flag is set, and every instruction ends in a debug
//! exception (SDM vol. 3 §18.3.1.4) whose handler counts it.

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU64, Ordering};

static STEPS: AtomicU64 = AtomicU64::new(0);

global_asm!(
    ".text",
    ".balign 16",
    "step:",
    "    inc qword ptr [{steps}]",
    "    iretq",
    steps = sym STEPS,
);

unsafe extern "C" {
    /// The handler of debug exceptions.
    pub static step: u8;
}

/// How many instructions `function(argument)` takes, and how many the counting adds, which are always
/// as many.
pub fn count(function: extern "C" fn(usize), argument: usize) -> u64 {
    let before = STEPS.load(Ordering::Relaxed);
    // SAFETY: a call by the C convention; the flags are as before afterwards.
    unsafe {
        asm!(
            "pushfq", "or qword ptr [rsp], 0x100", "popfq",
            "call {function}",
            "pushfq", "and qword ptr [rsp], ~0x100", "popfq",
            function = in(reg) function, in("rdi") argument, clobber_abi("C"),
        )
    };
    STEPS.load(Ordering::Relaxed) - before
}
