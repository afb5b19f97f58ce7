//! PVH entry (xen/include/public/arch-x86/hvm/start_info.h): 32-bit protected mode without paging,
//! EBX = start information. QEMU, Firecracker and Cloud Hypervisor boot the same ELF by it.
//!
//! It makes the state that `abi::boot_info` asks of our own monitor, and joins its entry.

use core::arch::global_asm;

global_asm!(
    ".section .note.Xen, \"a\", @note",
    ".balign 4",
    ".long 4",
    ".long 4",
    ".long 18", // XEN_ELFNOTE_PHYS32_ENTRY
    ".asciz \"Xen\"",
    ".long pvh_entry",
    // PML4, PDPT, four page directories.
    ".section .bss.page_tables, \"aw\", @nobits",
    ".balign 4096",
    "page_tables: .skip 6 * 4096",
    "pvh_stack: .skip 64",
    "pvh_stack_top:",
    ".section .rodata.pvh, \"a\"",
    ".balign 8",
    "pvh_descriptors: .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00cf9b000000ffff",
    "pvh_gdtr: .word 31",
    ".long pvh_descriptors, 0",
    ".section .text.pvh, \"ax\"",
    ".code32",
    "pvh_entry:",
    "    cli",
    "    cld",
    "    mov al, 0xff", // firmware may have left the 8259s on: mask both
    "    out 0x21, al",
    "    out 0xa1, al",
    "    mov esp, offset pvh_stack_top",
    "    mov edi, offset page_tables",
    "    lea eax, [edi + 0x1007]",
    "    mov [edi], eax",
    "    lea eax, [edi + 0x2007]",
    "    xor ecx, ecx",
    "2:  mov [edi + 0x1000 + ecx * 8], eax",
    "    add eax, 0x1000",
    "    inc ecx",
    "    cmp ecx, 4",
    "    jb 2b",
    "    mov eax, 0x87", // present, writable, user, 2 MiB
    "    xor ecx, ecx",
    "3:  mov [edi + 0x2000 + ecx * 8], eax",
    "    add eax, 0x200000",
    "    inc ecx",
    "    cmp ecx, 2048",
    "    jb 3b",
    "    mov cr3, edi",
    "    mov eax, 0x620", // PAE, OSFXSR, OSXMMEXCPT
    "    mov cr4, eax",
    "    mov ecx, 0xc0000080", // EFER: SCE, LME, NXE
    "    rdmsr",
    "    or eax, 0x901",
    "    wrmsr",
    "    mov eax, 0x80010033",
    "    mov cr0, eax",
    "    lgdt [pvh_gdtr]",
    "    push 8",
    "    mov eax, offset pvh_long",
    "    push eax",
    "    retf",
    ".code64",
    "pvh_long:",
    "    mov edi, ebx",
    "    xor esi, esi",
    "    jmp start",
);
