//! KVM_SET_USER_MEMORY_REGION (KVM api.rst §4.35).

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use vmm_sys_util::errno;

/// Shows the guest the memory that `slot` names. Its callers, [`crate::kvm::vm::Vm::set_slot`] and the
/// canary, keep the owner of that memory for as long as the VM.
pub(crate) fn set(vm: &VmFd, slot: kvm_userspace_memory_region) -> Result<(), errno::Error> {
    // SAFETY: the memory stays mapped while the VM lives, as said above, and nothing in this process holds
    // Rust references into it.
    unsafe { vm.set_user_memory_region(slot) }
}
