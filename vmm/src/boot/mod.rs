//! What a CPU finds when it starts, and how it gets there.
//!
//! - [`initramfs`]   the first root file system of a guest that brings none
//! - [`cpio`]        the archive that it is packed into
//! - [`modules`]     which kernel modules it must hold
//! - [`modinfo`]     what a module says that it needs

pub mod cpio;
pub mod initramfs;
pub mod modinfo;
pub mod modules;
