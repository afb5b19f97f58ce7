//! A program from a disk, in a root of its own: the disk, and beside it what programs want to find.

use std::ffi::CString;
use std::fs;
use std::io;
use std::net::Ipv4Addr;

use abi::record::{Outcome, Record};
use abi::workload::Spec;

use super::{CARD, already_there, failed, speak::Monitor};
use crate::sys::init::{mount, mount_disk};
use crate::sys::interface;
use crate::workload::tool;

/// Where the disk is.
const ROOT: &str = "/disk";
/// Into the root, by a program that needs nothing of it.
const SHELL: &[&str] = &["/disk/bin/busybox", "chroot", ROOT, "/bin/sh"];
const LOOPBACK: &str = "lo";

/// Its status: 0, or 1 where something went wrong.
pub fn run(spec: &Spec<'_>, monitor: &Monitor) -> u8 {
    if let Err(error) = stage(spec) {
        return failed("make a root of the disk", &error);
    }
    let mut status = 0;
    let done = tool::run(spec, SHELL, &mut |record| {
        status = u8::from(record.outcome != Outcome::Ok);
        monitor.record(record);
    });
    if let Err(unavailable) = done {
        monitor.record(&Record::without(spec.workload.name, Outcome::Unavailable(unavailable.0)));
        return 1;
    }
    status
}

/// The disk is read alone: several guests may have the same one.
fn stage(spec: &Spec<'_>) -> io::Result<()> {
    mount(c"/dev", c"devtmpfs").or_else(already_there)?;
    let letter = char::from(b'a' + spec.number("disk") as u8);
    fs::create_dir_all(ROOT)?;
    mount_disk(&CString::new(format!("/dev/vd{letter}"))?, c"/disk", c"ext4").or_else(already_there)?;
    for (target, kind) in [
        (c"/disk/dev", c"devtmpfs"),
        (c"/disk/proc", c"proc"),
        (c"/disk/sys", c"sysfs"),
        (c"/disk/tmp", c"tmpfs"),
        (c"/disk/run", c"tmpfs"),
    ] {
        mount(target, kind).or_else(already_there)?;
    }
    // Of POSIX shared memory.
    fs::create_dir_all("/disk/dev/shm")?;
    mount(c"/disk/dev/shm", c"tmpfs").or_else(already_there)?;
    interface::bring_up(LOOPBACK, Ipv4Addr::LOCALHOST)?;
    if spec.given("address") || spec.given("peer") {
        let (address, _) = spec.peer("address").unwrap_or_default();
        interface::bring_up(CARD, address.into())?;
    }
    Ok(())
}
