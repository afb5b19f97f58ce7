//! KVM_SET_USER_MEMORY_REGION (KVM api.rst §4.35).

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use vm_memory::{GuestMemoryRegion, GuestRegionMmap};
use vmm_sys_util::errno;

/// Gives the guest the memory of `backing`, which the caller keeps for as long as the VM lives.
pub fn set(
    vm: &VmFd,
    slot: kvm_userspace_memory_region,
    backing: &GuestRegionMmap,
) -> Result<(), errno::Error> {
    debug_assert!(slot.memory_size <= backing.len());
    // SAFETY: the slot lies within `backing`, whose mapping the machine owns and drops only after the VM
    // and all vCPUs; nothing in this process holds Rust references into guest memory.
    unsafe { vm.set_user_memory_region(slot) }
}
