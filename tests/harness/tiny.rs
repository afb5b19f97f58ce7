//! Guests of a few instructions: PVH ELFs, made here, which run on every kind of host.

use std::path::PathBuf;

use super::machine::scratch;

/// Where the code lies and starts: 32-bit protected mode, flat, paging off (Xen
/// docs/misc/pvh.pandoc).
const ENTRY: u32 = 0x10_0000;

/// A PVH ELF whose code is `code`, in a file that goes when this does.
pub struct Tiny(PathBuf);

impl Tiny {
    pub fn new(code: &[u8]) -> Tiny {
        let path = scratch("guest.elf");
        std::fs::write(&path, elf(code)).expect("write the guest");
        Tiny(path)
    }

    /// `--kernel` and its path.
    pub fn args(&self) -> [std::ffi::OsString; 2] {
        ["--kernel".into(), self.0.clone().into()]
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Writes `value` to `port`.
pub fn out8(port: u16, value: u8) -> Vec<u8> {
    let [low, high] = port.to_le_bytes();
    vec![0x66, 0xba, low, high, 0xb0, value, 0xee] // mov dx, port; mov al, value; out dx, al
}

/// Prints `text` on the first serial port, a byte at a time.
pub fn print(text: &str) -> Vec<u8> {
    text.bytes().flat_map(|byte| out8(abi::port::COM1, byte)).collect()
}

/// Ends with `status`.
pub fn exit(status: u8) -> Vec<u8> {
    out8(abi::port::EXIT, status)
}

/// Halts for good, interrupts off.
pub fn halt() -> Vec<u8> {
    vec![0xfa, 0xf4, 0xeb, 0xfd] // cli; hlt; jmp back to hlt
}

/// Waits for a byte of input.
pub fn wait_for_a_key() -> Vec<u8> {
    let mut code = out8(abi::port::COM1 + 4, 2); // RTS: it takes some
    code.extend([0x66, 0xba, 0xfd, 0x03]); // mov dx, LSR
    code.extend([0xec, 0xa8, 0x01, 0x74, 0xfb]); // again: in al, dx; test al, DR; jz again
    code
}

/// Spins for good.
pub fn spin() -> Vec<u8> {
    vec![0xeb, 0xfe] // jmp to itself
}

/// Writes to each 4 KiB page of `pages` pages from `start` on.
pub fn touch(start: u32, pages: u32) -> Vec<u8> {
    let mut code = vec![0xbf]; // mov edi, start
    code.extend(start.to_le_bytes());
    code.push(0xb9); // mov ecx, pages
    code.extend(pages.to_le_bytes());
    code.extend([0x89, 0x3f]); // again: mov [edi], edi
    code.extend([0x81, 0xc7, 0, 0x10, 0, 0]); // add edi, 4096
    code.extend([0x49, 0x75, 0xf5]); // dec ecx; jnz again
    code
}

/// Writes `port` so many times.
pub fn outs(port: u16, times: u32) -> Vec<u8> {
    let [low, high] = port.to_le_bytes();
    let mut code = vec![0x66, 0xba, low, high, 0xb9]; // mov dx, port; mov ecx, times
    code.extend(times.to_le_bytes());
    code.extend([0xee, 0x49, 0x75, 0xfc]); // again: out dx, al; dec ecx; jnz again
    code
}

/// Stores so many times, `step` bytes apart.
pub fn stores(start: u32, step: u32, times: u32) -> Vec<u8> {
    let mut code = vec![0xbf]; // mov edi, start
    code.extend(start.to_le_bytes());
    code.push(0xb9); // mov ecx, times
    code.extend(times.to_le_bytes());
    code.extend([0x89, 0x07, 0x81, 0xc7]); // again: mov [edi], eax; add edi, step
    code.extend(step.to_le_bytes());
    code.extend([0x49, 0x75, 0xf5]); // dec ecx; jnz again
    code
}

/// CPUID so many times.
pub fn cpuids(times: u32) -> Vec<u8> {
    let mut code = vec![0xbf]; // mov edi, times
    code.extend(times.to_le_bytes());
    code.extend([0x31, 0xc0, 0x0f, 0xa2, 0x4f, 0x75, 0xf9]); // again: xor eax, eax; cpuid; dec edi; jnz
    code
}

/// An interrupt without a table for interrupts, nor for faults: a triple fault.
pub fn triple_fault() -> Vec<u8> {
    vec![0x6a, 0, 0x6a, 0, 0x0f, 0x01, 0x1c, 0x24, 0x0f, 0x0b] // push 0; push 0; lidt [esp]; ud2
}

/// ELF64 header, two program headers (PT_LOAD, PT_NOTE), one note, the code (ELF gABI; the note is
/// XEN_ELFNOTE_PHYS32_ENTRY, 18).
fn elf(code: &[u8]) -> Vec<u8> {
    const HEADERS: u64 = 64 + 2 * 56;
    const NOTE: u64 = 12 + 4 + 4;
    let entry = ENTRY + (HEADERS + NOTE) as u32;
    let stack = entry + code.len() as u32 + 5 + 256;
    // mov esp, stack: what pushes must have somewhere to push to.
    let mut text = vec![0xbc];
    text.extend(stack.to_le_bytes());
    text.extend(code);
    let size = HEADERS + NOTE + text.len() as u64;

    let mut file = Vec::new();
    file.extend([0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    half(&mut file, &[2, 62]); // ET_EXEC, EM_X86_64
    word(&mut file, &[1]);
    long(&mut file, &[entry.into(), 64, 0]); // entry, program headers, no sections
    word(&mut file, &[0]);
    half(&mut file, &[64, 56, 2, 64, 0, 0]);

    word(&mut file, &[1, 7]); // PT_LOAD, RWX
    long(&mut file, &[0, ENTRY.into(), ENTRY.into(), size, size + 512, 0x1000]);
    word(&mut file, &[4, 4]); // PT_NOTE, R
    long(&mut file, &[HEADERS, u64::from(ENTRY) + HEADERS, u64::from(ENTRY) + HEADERS, NOTE, NOTE, 4]);

    word(&mut file, &[4, 4, 18]);
    file.extend(b"Xen\0");
    word(&mut file, &[entry]);
    file.extend(text);
    file
}

fn half(file: &mut Vec<u8>, values: &[u16]) {
    file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

fn word(file: &mut Vec<u8>, values: &[u32]) {
    file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

fn long(file: &mut Vec<u8>, values: &[u64]) {
    file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}
