//! Memory is backed as asked, and the report proves it; what cannot be had is refused before the
//! guest runs. Guests of a few instructions.

mod harness;

use std::fs;

use harness::host::{any_guest, in_lab, skip};
use harness::machine::{Ended, vmm};
use harness::tiny::{Tiny, exit, touch};
use serde_json::Value;

const MIB: u64 = 1 << 20;

/// A machine of 64 MiB that writes to every page from 16 to 48 MiB.
fn touched(args: &[&str]) -> Ended {
    let guest = Tiny::new(&[touch(16 << 20, 32 << 8), exit(0)].concat());
    let size = if args.contains(&"--memory") { None } else { Some(["--memory", "64M"]) };
    vmm(guest.args()).args(size.into_iter().flatten()).args(args.iter().copied()).run()
}

fn memory<'a>(ended: &'a Ended, key: &str) -> &'a Value {
    &ended.report["memory"][key]
}

/// How many pages of 2 MiB the pool has free.
fn free_2m() -> u64 {
    free("2048kB")
}

fn free(page: &str) -> u64 {
    let file = format!("/sys/kernel/mm/hugepages/hugepages-{page}/free_hugepages");
    fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

#[test]
fn huge_where_asked_and_small_where_not_whatever_the_host_prefers() {
    let Some(_) = any_guest() else { return };
    let thp = "/sys/kernel/mm/transparent_hugepage/enabled";
    let before = fs::read_to_string(thp).unwrap_or_default();
    // The lab is a machine of its own, whose setting is ours to change.
    if in_lab() {
        fs::write(thp, "always").expect("set THP to always");
    }
    let huge = touched(&["--thp"]);
    huge.expect("exit", 0);
    let coverage = memory(&huge, "coverage").as_f64().expect("a share");
    if before.contains("[never]") {
        skip("this host has no transparent huge pages");
    } else {
        assert!(coverage > 0.9, "{coverage} of the memory in huge pages");
    }
    let small = touched(&["--thp=off"]);
    small.expect("exit", 0);
    assert_eq!(memory(&small, "coverage").as_f64(), Some(1.0), "{}", small.report["memory"]);
    // KVM's own count, where the host has one.
    if let (Some(huge), Some(small)) =
        (memory(&huge, "pages_2m").as_u64(), memory(&small, "pages_2m").as_u64())
    {
        assert!(huge >= 8 && small == 0, "{huge} pages of 2 MiB with --thp, {small} without");
    }
}

#[test]
fn resident_is_what_was_touched_or_all_of_it_with_prefault() {
    let Some(_) = any_guest() else { return };
    let lazy = touched(&["--thp=off"]);
    let got = memory(&lazy, "got_bytes").as_u64().expect("bytes");
    assert!((32 * MIB..40 * MIB).contains(&got), "{got} bytes for a guest that touched 32 MiB");
    let eager = touched(&["--thp=off", "--prefault"]);
    assert_eq!(memory(eager.expect("exit", 0), "got_bytes").as_u64(), Some(64 * MIB));
}

#[test]
fn pages_from_the_pool() {
    let Some(_) = any_guest() else { return };
    let free = free_2m();
    if free < 32 {
        return skip(&format!("the pool has {free} of 32 pages: echo 32 > /proc/sys/vm/nr_hugepages"));
    }
    let ended = touched(&["--hugepages=2M"]);
    ended.expect("exit", 0);
    assert_eq!(memory(&ended, "coverage").as_f64(), Some(1.0), "{}", ended.report["memory"]);
    assert_eq!(free_2m(), free, "pages given back");
}

#[test]
fn a_page_of_1g_from_the_pool() {
    let Some(_) = any_guest() else { return };
    const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages";
    // The lab's memory is ours; where none of it is whole any more, none comes.
    if in_lab() {
        fs::write(POOL, "1").expect("ask for a page of 1 GiB");
    }
    if free("1048576kB") == 0 {
        return skip(&format!("the pool has no page of 1 GiB: echo 1 > {POOL}"));
    }
    let ended = touched(&["--hugepages=1G", "--memory", "1G"]);
    let back = free("1048576kB");
    if in_lab() {
        fs::write(POOL, "0").expect("give the page back");
    }
    ended.expect("exit", 0);
    assert_eq!(memory(&ended, "got_bytes").as_u64(), Some(1024 * MIB), "{}", ended.report["memory"]);
    assert_eq!(memory(&ended, "coverage").as_f64(), Some(1.0), "{}", ended.report["memory"]);
    // KVM maps it whole, where it counts such pages and the CPU has them.
    if let Some(mapped) = memory(&ended, "pages_1g").as_u64() {
        assert_eq!(mapped, 1, "{}", ended.report["memory"]);
    }
    assert!(back > 0, "the page was not given back");
}

#[test]
fn an_empty_pool_is_said_with_the_command_that_fills_it() {
    let Some(_) = any_guest() else { return };
    let guest = Tiny::new(&exit(0));
    let asked = free_2m() + 16;
    let size = format!("{}M", asked * 2);
    let ended = vmm(guest.args()).args(["--hugepages=2M", "--memory", size.as_str()]).run();
    ended.expect_refusal(73, "16 missing: echo ");
    let ended = vmm(guest.args()).args(["--hugepages=1G", "--memory", "64G"]).run();
    assert_eq!(ended.status, 73, "{}", ended.stderr);
}

#[test]
fn more_than_the_host_has_is_refused() {
    let Some(_) = any_guest() else { return };
    let guest = Tiny::new(&exit(0));
    vmm(guest.args()).args(["--memory", "16T"]).run().expect_refusal(73, "16T");
}

#[test]
fn the_monitor_itself_is_small() {
    let Some(_) = any_guest() else { return };
    let ended = touched(&[]);
    let private = memory(&ended, "vmm_private_bytes").as_u64().expect("bytes");
    assert!(private < MIB / 2, "{private} bytes of its own");
}
