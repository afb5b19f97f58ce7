//! Process 1 of the guest: says that userspace is there, then ends the machine or idles.

use std::io::Write;

use bench::sys;

/// What the guest prints when it has come to userspace.
pub const READY: &str = "userspace";
/// Kernel parameter, which Linux hands to process 1 as an environment variable: end the machine.
pub const END: &str = "boot_end";
/// Written to, it ends the machine: `vmm`'s exit port, and QEMU's isa-debug-exit put there.
pub const EXIT_PORT: u16 = 0x500;

pub fn run() -> ! {
    // Without a console there is nobody to tell.
    let _ = writeln!(std::io::stdout(), "{READY}");
    if std::env::var_os(END).is_some() {
        // Where it does not end, the benchmark gives up waiting and says so.
        let _ = sys::out8(EXIT_PORT, 0);
    }
    loop {
        std::thread::park();
    }
}
