//! What a loader has left: our monitor's page, or PVH's start information and ACPI's tables.

use std::vec;

use abi::workload::Spec;

use super::MAPPED;
use crate::boot::{LONGEST, read};
use crate::virtio::mmio::Pages;

/// Where the information is, in memory that begins with the fuzzer's bytes.
const INFORMATION: usize = 0x100;

/// Memory with what a loader has left at [`INFORMATION`].
pub fn boot(data: &[u8]) {
    let mut memory = data.to_vec();
    memory.resize(memory.len().max(INFORMATION) + LONGEST, 0);
    let nothing = vec![0; LONGEST];
    let look = |at: usize, len: usize| {
        assert!(len <= LONGEST && at.checked_add(len).is_some_and(|end| end <= MAPPED), "{at:#x}, {len}");
        memory.get(at..at + len).unwrap_or(&nothing[..len])
    };
    let Some(boot) = read(INFORMATION, &look) else { return };
    Pages::new(boot.mmio, boot.command_line);
    abi::boot_info::workloads(boot.command_line).for_each(|workload| _ = Spec::parse(workload));
}
