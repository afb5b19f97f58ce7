//! Memory of each backing, on this host.

use vm_memory::{Bytes, GuestMemoryBackend, GuestMemoryRegion};

use super::*;
use crate::status::{Fatal, Status};

const HUGE: u64 = 2 << 20;
/// RAM on both sides of the PCI hole.
const LAYOUT: [(u64, u64); 2] = [(0, 8 * HUGE), (4 << 30, 8 * HUGE)];

fn ram(backing: Backing, prefault: bool) -> Result<GuestRam, Error> {
    GuestRam::allocate(&Memory { size: 16 * HUGE, backing, prefault, shared: false }, &LAYOUT)
}

#[test]
fn addresses_are_congruent_modulo_2_mib() {
    let ram = ram(Backing::Small, false).unwrap();
    for region in ram.mem().iter() {
        assert_eq!(region.as_ptr() as u64 % HUGE, region.start_addr().0 % HUGE);
    }
    ram.mem().write_obj(7_u64, GuestAddress((4 << 30) + 8 * HUGE - 8)).unwrap();
}

#[test]
fn small_pages_stay_small_and_all_come_by_prefault() {
    let evidence = ram(Backing::Small, true).unwrap().evidence().unwrap();
    assert_eq!((evidence.got_bytes, evidence.coverage()), (16 * HUGE, Some(1.0)));
    assert!(evidence.vmm_private_bytes > 0 && evidence.vmm_private_bytes < evidence.vmm_resident_bytes);
}

#[test]
fn transparent_huge_pages_come_where_the_host_has_them() {
    let host = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    if !host.contains("[always]") && !host.contains("[madvise]") {
        eprintln!("skipped: no transparent huge pages on this host: {host}");
        return;
    }
    let ram = ram(Backing::Thp, false).unwrap();
    assert_eq!(ram.evidence().unwrap().coverage(), None);
    ram.mem().write_obj(7_u64, GuestAddress(3 * HUGE)).unwrap();
    let evidence = ram.evidence().unwrap();
    assert_eq!((evidence.got_bytes, evidence.coverage()), (HUGE, Some(1.0)));
}

#[test]
fn shared_memory_has_what_the_host_gives_shared_memory() {
    let asked = Memory { size: 16 * HUGE, backing: Backing::Thp, prefault: false, shared: true };
    let ram = GuestRam::allocate(&asked, &LAYOUT).unwrap();
    assert!(ram.mem().iter().all(|region| region.file_offset().is_some()));
    ram.mem().write_obj(7_u64, GuestAddress(3 * HUGE)).unwrap();
    let evidence = ram.evidence().unwrap();
    assert!(evidence.got_bytes >= 4096);
    let host = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/shmem_enabled");
    if host.unwrap_or_default().contains("[never]") {
        assert_eq!(evidence.coverage(), Some(0.0));
    }
}

#[test]
fn an_empty_pool_says_how_many_pages_are_missing() {
    let asked = Memory { size: 1 << 40, backing: Backing::Huge2M, prefault: false, shared: false };
    let refused = |asked: &Memory| GuestRam::allocate(asked, &[(0, asked.size)]).map(drop).unwrap_err();
    assert!(matches!(refused(&asked), Error::Host { .. }));
    // All of this host's memory: no pool can hold so much.
    let asked = Memory { size: crate::sys::ram::ram_and_swap() / HUGE * HUGE, ..asked };
    let error = refused(&asked);
    assert_eq!(error.status(), Status::Resource);
    let text = error.to_string();
    assert!(text.contains(" missing: echo ") && text.ends_with("kB/nr_hugepages"), "{text}");
}

#[test]
fn more_than_is_available_is_refused_before_it_is_touched() {
    let size = crate::sys::ram::ram_and_swap() / HUGE * HUGE;
    let asked = Memory { size, backing: Backing::Small, prefault: true, shared: false };
    let error = GuestRam::allocate(&asked, &[(0, size)]).map(drop).unwrap_err();
    assert!(matches!(error, Error::Available { .. } | Error::Limit { .. } | Error::Map { .. }), "{error}");
}
