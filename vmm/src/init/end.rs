//! The ends of a machine.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use super::{already_there, speak::Monitor};
use crate::sys::init::{Reboot, mount, reboot, unsent};

/// So long the console has for what was written last: its reader may have stopped it.
const PATIENCE: Duration = Duration::from_secs(1);

/// The exit port, or else power off. Should the kernel refuse even that, process 1 ends, which is a
/// kernel panic: an end too.
pub fn with_status(monitor: &Monitor, status: u8) -> ! {
    let_it_be_read();
    monitor.exit(status);
    eprintln!("vmm init: status {status}; powering off");
    let error = reboot(Reboot::PowerOff);
    eprintln!("vmm init: power off: {error}");
    std::process::exit(status.into())
}

/// The end called `name`; returns why it didn't come to that.
pub fn by(name: &str) -> io::Error {
    let_it_be_read();
    let done = match name {
        "poweroff" => return reboot(Reboot::PowerOff),
        "reboot" => Ok(()),
        "panic" => crash(),
        _ => restart_by_triple_fault(),
    };
    done.map_or_else(|error| error, |()| reboot(Reboot::Restart))
}

/// Waits until the console has what was written to it: a serial port is slower than who ends the machine.
fn let_it_be_read() {
    let began = Instant::now();
    while began.elapsed() < PATIENCE && matches!(unsent(), Ok(1..)) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Documentation/admin-guide/sysrq.rst: `c` crashes the system by a null pointer dereference.
fn crash() -> io::Result<()> {
    mount(c"/proc", c"proc").or_else(already_there)?;
    // A panic needs the crash to be fatal, whatever the command line says.
    fs::write("/proc/sys/kernel/panic_on_oops", "1")?;
    fs::write("/proc/sysrq-trigger", "c")
}

/// Documentation/ABI/testing/sysfs-kernel-reboot: `triple` is reboot's way of last resort.
fn restart_by_triple_fault() -> io::Result<()> {
    mount(c"/sys", c"sysfs").or_else(already_there)?;
    fs::write("/sys/kernel/reboot/type", "triple")?;
    fs::write("/sys/kernel/reboot/force", "1")
}
