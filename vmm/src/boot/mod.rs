//! What a CPU finds when it starts, and how it gets there.
//!
//! - [`payload`]     all that goes into memory: opened and checked, then copied
//! - [`image`]       what a kernel file is, told by its content
//! - [`load`]        kernel and initrd into memory
//! - [`builtin`]     the kernel that is always there
//! - [`segments`]    the parts of an ELF file that are loaded
//! - [`vmlinux`]     the kernel inside a bzImage, unpacked here
//! - [`initramfs`]   the first root file system of a guest that brings none
//! - [`cpio`]        the archive that it is packed into
//! - [`modules`]     which kernel modules it must hold
//! - [`modinfo`]     what a module says that it needs
//! - [`layout`]      where things are
//! - [`memory_map`]  what the kernel is told about memory
//! - [`linux`]       boot parameters of Linux's 64-bit entry
//! - [`pvh`]         start information of the PVH entry
//! - [`acpi`]        what hardware there is, and isn't
//! - [`cpuid`]       what CPU there is
//! - [`state`]       registers, descriptors, page tables
//! - [`cmdline`]     the command line and what is added to it

pub mod acpi;
pub mod builtin;
pub mod cmdline;
pub mod cpio;
pub mod cpuid;
pub mod image;
pub mod initramfs;
pub mod layout;
pub mod linux;
pub mod load;
pub mod memory_map;
pub mod modinfo;
pub mod modules;
pub mod payload;
pub mod pvh;
pub mod segments;
pub mod state;
pub mod vmlinux;
