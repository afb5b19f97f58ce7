//! `--idle guest-poll`, in a guest: its CPUs poll for work.
//!
//! cpuidle's haltpoll governor polls for as long as it pays, and then halts. A kernel without it (Debian's) has
//! the driver of that name alone, under a governor that never chooses to poll: there, a wake-up that may take no
//! time at all is asked for (pm_qos_interface.rst), and no CPU halts while that stands.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::IntoRawFd;

use super::already_there;
use crate::sys::init::mount;

const GOVERNOR: &str = "/sys/devices/system/cpu/cpuidle/current_governor";
const LATENCY: &str = "/dev/cpu_dma_latency";

pub fn poll() -> io::Result<()> {
    mount(c"/sys", c"sysfs").or_else(already_there)?;
    if fs::read_to_string(GOVERNOR)?.trim() == "haltpoll" {
        return Ok(());
    }
    mount(c"/dev", c"devtmpfs").or_else(already_there)?;
    let mut latency = File::options().write(true).open(LATENCY)?;
    latency.write_all(&0i32.to_ne_bytes())?;
    // It holds until the file is closed: as long as the guest runs.
    let _ = latency.into_raw_fd();
    Ok(())
}
