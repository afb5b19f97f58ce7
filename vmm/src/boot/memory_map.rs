//! The memory map as firmware would tell it (E820; PVH uses the same types).

use super::layout;

/// What a range of guest-physical addresses is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    Ram = 1,
    Reserved = 2,
}

/// `(start, bytes, kind)`, ascending. `ecam`: Linux believes MCFG only where the map reserves it.
pub fn memory_map(memory_size: u64, ecam: bool) -> Vec<(u64, u64, Kind)> {
    let mut map = vec![
        (0, layout::LOW_MEMORY_END, Kind::Ram),
        (layout::ACPI, layout::ACPI_END - layout::ACPI, Kind::Reserved),
    ];
    for (start, bytes) in layout::ram(memory_size) {
        if start == 0 {
            map.push((layout::KERNEL, bytes - layout::KERNEL, Kind::Ram));
            if ecam {
                map.push((layout::ECAM, layout::ECAM_LEN, Kind::Reserved));
            }
        } else {
            map.push((start, bytes, Kind::Ram));
        }
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ascending_and_apart_on_both_sides_of_the_hole() {
        for size in [128 << 20, 3 << 30, 5u64 << 30] {
            let map = memory_map(size, true);
            for pair in map.windows(2) {
                assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:x?}");
            }
            let ram: u64 = map.iter().filter(|r| r.2 == Kind::Ram).map(|r| r.1).sum();
            assert_eq!(ram, size - (layout::KERNEL - layout::LOW_MEMORY_END));
        }
    }
}
