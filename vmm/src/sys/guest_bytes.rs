//! Guest memory as plain bytes, while there is no guest yet.

use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryError, GuestMemoryMmap};

/// Hands `len` bytes at `address` to `fill`. Only for what is loaded before the first vCPU exists, by
/// threads that each have a range of their own: [`crate::boot::segments`] and [`crate::boot::vmlinux`].
pub(crate) fn with<R>(
    memory: &GuestMemoryMmap,
    address: u64,
    len: usize,
    fill: impl FnOnce(&mut [u8]) -> R,
) -> Result<R, GuestMemoryError> {
    let slice = memory.get_slice(GuestAddress(address), len)?;
    let guard = slice.ptr_guard_mut();
    // SAFETY: the slice is `len` mapped bytes that live as long as `memory`. No vCPU and no device exists
    // yet, and the callers' threads work on ranges that don't overlap, so nobody else reads or writes them.
    let bytes = unsafe { std::slice::from_raw_parts_mut(guard.as_ptr(), len) };
    Ok(fill(bytes))
}
