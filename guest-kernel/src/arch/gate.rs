//! The way from ring 3 into ring 0 and back: `int3`, on every kind of host.
//!
//! A breakpoint is the one software interrupt that kvm_pvm delivers (its `syscall` never leaves
//! ring 3). What happens behind it is short, because there each instruction costs half a
//! microsecond. The same gate works from ring 0, for workloads that run there.

use core::arch::x86_64::{__cpuid, CpuidResult};
use core::arch::{asm, global_asm};
use core::sync::atomic::AtomicU32;

use super::cpu::{self, INTERRUPTS, KERNEL_CODE, USER_CODE};

// EAX says what to do; other registers are the operation's. An interrupt gate: IF is clear.
global_asm!(
    ".text",
    ".balign 16",
    "gate:",
    "    cmp eax, 1",
    "    jb 2f",
    "    je 3f",
    "    cmp eax, 3",
    "    jb 4f",
    "    je 5f",
    // 4: call RDI, with RSI, in ring 0.
    "    xchg rdi, rsi",
    "    call rsi",
    "    iretq",
    // 1: first set the deadline ECX:EDX:EAX, with EAX in R8.
    "3:  mov eax, r8d",
    "    wrmsr",
    // 0: halt, if the word at RDI is ESI. An interrupt between the look and the HLT is taken after the
    // HLT: STI holds it back for one instruction (SDM vol. 2, STI).
    "2:  cmp dword ptr [rdi], esi",
    "    jne 6f",
    "    sti",
    "halting:",
    "    hlt",
    "6:  iretq",
    // 2: WRMSR of ECX, EDX:R8.
    "4:  mov eax, r8d",
    "    wrmsr",
    "    iretq",
    // 3: return with RDI as CS and RSI as SS: to the other ring, on the same stack.
    "5:  mov [rsp + 8], rdi",
    "    mov [rsp + 32], rsi",
    "    iretq",
    // Nothing here means anything by an NMI: it ends a halt, no more.
    ".balign 16",
    "nmi:",
    "    iretq",
    // An interrupt's only work is to end a HLT: count, acknowledge, return. One for each kind of APIC.
    //
    // QEMU's emulation of SVM forgets what STI holds back when it exits to KVM before the HLT (the VMCB's
    // interrupt shadow, APM vol. 2 §15.21.5): one that came there has ended the HLT, too.
    ".macro end_halt",
    "    cmp qword ptr [rsp], offset halting",
    "    jne 7f",
    "    inc qword ptr [rsp]",
    "7:",
    ".endm",
    ".balign 16",
    "interrupt_xapic:",
    "    end_halt",
    "    inc dword ptr gs:[{interrupts}]",
    "    push rax",
    "    mov eax, 0xfee000b0",
    "    mov dword ptr [rax], 0",
    "    pop rax",
    "    iretq",
    ".balign 16",
    "interrupt_x2apic:",
    "    end_halt",
    "    inc dword ptr gs:[{interrupts}]",
    "    push rax",
    "    push rcx",
    "    push rdx",
    "    mov ecx, 0x80b",
    "    xor eax, eax",
    "    xor edx, edx",
    "    wrmsr",
    "    pop rdx",
    "    pop rcx",
    "    pop rax",
    "    iretq",
    interrupts = const INTERRUPTS,
);

unsafe extern "C" {
    pub static gate: u8;
    pub static nmi: u8;
    pub static interrupt_xapic: u8;
    pub static interrupt_x2apic: u8;
}

/// IA32_TSC_DEADLINE (SDM vol. 3 §11.5.4.1).
const TSC_DEADLINE: u32 = 0x6e0;

/// Halts until the next interrupt, unless `word` is no longer `value`; the look and the halt are one.
pub fn halt_unless(word: &AtomicU32, value: u32) {
    // SAFETY: the gate reads the word and changes EAX alone.
    unsafe { asm!("int3", inout("eax") 0 => _, in("rdi") word.as_ptr(), in("esi") value) };
}

/// The same, with the timer set to `deadline`, in ticks of the time stamp counter.
pub fn halt_until(deadline: u64, word: &AtomicU32, value: u32) {
    // SAFETY: as above; the deadline only brings an interrupt.
    unsafe {
        asm!("int3", inout("eax") 1 => _, in("rdi") word.as_ptr(), in("esi") value, in("ecx") TSC_DEADLINE,
             in("r8") deadline as u32, in("edx") (deadline >> 32) as u32)
    };
}

/// Writes a model-specific register.
///
/// # Safety
/// The value must not break what Rust relies on: memory mapping, stacks, descriptors.
pub unsafe fn wrmsr(msr: u32, value: u64) {
    // SAFETY: the caller's.
    unsafe {
        asm!("int3", inout("eax") 2 => _, in("ecx") msr, in("r8") value as u32, in("edx") (value >> 32) as u32)
    };
}

/// Calls `function` in ring 0, interrupts off.
pub fn in_ring0(function: extern "C" fn(usize), argument: usize) {
    // SAFETY: the gate calls it by the C convention, on the ring-0 stack or, from ring 0, on ours.
    unsafe {
        asm!("int3", inout("eax") 4 => _, inout("rdi") function => _, inout("rsi") argument => _,
             clobber_abi("C"))
    };
}

/// Goes on in ring 0 or ring 3. Memory and stack are the same in both.
pub fn set_ring(ring: u8) {
    if cpu::in_ring0() == (ring == 0) {
        return;
    }
    let (code, stack) = if ring == 0 { (KERNEL_CODE, KERNEL_CODE + 8) } else { (USER_CODE, USER_CODE - 8) };
    // SAFETY: all memory is accessible from both rings, so only what is permitted changes.
    unsafe { asm!("int3", inout("eax") 3 => _, in("rdi") u64::from(code), in("rsi") u64::from(stack)) };
}

/// Reads a model-specific register.
pub fn rdmsr(msr: u32) -> u64 {
    extern "C" fn read(answer: usize) {
        let answer = answer as *mut (u32, u64);
        let (low, high): (u32, u32);
        // SAFETY: the caller's variable, who waits; the register is one that this CPU has.
        unsafe {
            asm!("rdmsr", in("ecx") (*answer).0, out("eax") low, out("edx") high, options(nostack));
            (*answer).1 = u64::from(high) << 32 | u64::from(low);
        }
    }
    let mut answer = (msr, 0);
    in_ring0(read, (&raw mut answer) as usize);
    answer.1
}

/// What the CPU says in ring 0: under kvm_pvm, ring 3 hears the outer machine's answer.
pub fn cpuid(leaf: u32) -> CpuidResult {
    extern "C" fn read(answer: usize) {
        let answer = answer as *mut (u32, CpuidResult);
        // SAFETY: the caller's variable, who waits.
        unsafe { (*answer).1 = __cpuid((*answer).0) };
    }
    let mut answer = (leaf, CpuidResult { eax: 0, ebx: 0, ecx: 0, edx: 0 });
    in_ring0(read, (&raw mut answer) as usize);
    answer.1
}
