//! Threads of the CPU: a stack, and six registers on it while another one runs.

use core::arch::global_asm;
use core::mem;
use core::sync::atomic::{AtomicUsize, Ordering};

global_asm!(
    ".text",
    // switch(save: *mut usize, stack: usize): the callee-saved registers of the System V ABI.
    "switch:",
    "    push rbp",
    "    push rbx",
    "    push r12",
    "    push r13",
    "    push r14",
    "    push r15",
    "    mov [rdi], rsp",
    "    mov rsp, rsi",
    "    pop r15",
    "    pop r14",
    "    pop r13",
    "    pop r12",
    "    pop rbx",
    "    pop rbp",
    "    ret",
    // A thread's first return goes here.
    "first:",
    "    mov rdi, rbx",
    "    call rbp",
    "    ud2",
);

unsafe extern "C" {
    fn switch(save: *mut usize, stack: usize);
    static first: u8;
}

/// Leaves this thread, whose stack pointer goes to `from`, for the one suspended in `to`: one that
/// [`suspended`] has made or `go` has left, which only its own CPU takes up, once (`crate::sched`).
pub fn go(from: &AtomicUsize, to: &AtomicUsize) {
    // SAFETY: `to` is a suspended stack with the registers on it that `switch` pops.
    unsafe { switch(from.as_ptr(), to.load(Ordering::Acquire)) };
}

/// Makes a suspended thread on the stack that ends at `top`, a multiple of 16 in memory that is the
/// thread's own: it will call `function(argument)`. The stack pointer to go to.
pub fn suspended(top: usize, function: fn(usize) -> !, argument: usize) -> usize {
    // R15 to R12, RBX, RBP, the address to return to, and one word so that a call finds RSP aligned.
    let frame = [0, 0, 0, 0, argument, function as usize, (&raw const first) as usize, 0];
    let stack = top - size_of_val(&frame);
    // SAFETY: within the stack, which nobody uses yet.
    unsafe { (stack as *mut [usize; 8]).write(frame) };
    stack
}

/// What the threads of one `run` call, shared by all of them.
pub struct Job([AtomicUsize; 2]);

impl Job {
    pub const fn none() -> Job {
        Job([AtomicUsize::new(0), AtomicUsize::new(0)])
    }

    /// Publishes `body` while `threads` runs: it starts the threads and waits for their end.
    pub fn set(&self, body: &(dyn Fn(usize) + Sync), threads: impl FnOnce()) {
        // SAFETY: a reference to a trait object is two words.
        let words: [usize; 2] = unsafe { mem::transmute(body) };
        for (slot, word) in self.0.iter().zip(words) {
            slot.store(word, Ordering::Release);
        }
        threads();
    }

    /// Calls it.
    pub fn call(&self, thread: usize) {
        let words: [usize; 2] = [self.0[0].load(Ordering::Acquire), self.0[1].load(Ordering::Acquire)];
        // SAFETY: threads exist only between `set` and the end of the `run` that called it.
        let body: &(dyn Fn(usize) + Sync) = unsafe { mem::transmute(words) };
        body(thread);
    }
}
