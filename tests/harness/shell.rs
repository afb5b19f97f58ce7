//! A Linux guest with a shell on its console.

use std::io::Write;

use super::host::linux_guest;
use super::kernels;
use super::machine::{Machine, Running, vmm};

/// Debian's cloud kernel with a shell on its console; `None`, after saying so, where it can't run.
pub fn shell() -> Option<Machine> {
    linux_guest()?;
    let kernel = kernels::cloud()?;
    let machine = vmm(["--kernel".into(), kernel.bzimage.into_os_string()]);
    let machine = machine.args(["--modules".into(), kernel.modules.into_os_string()]);
    Some(machine.args(["--cmdline", "quiet", "--workload", "shell"]))
}

/// Types a line, once the shell asks for one.
pub fn tell(machine: &mut Running, line: &str) {
    machine.until("/ # ");
    let stdin = machine.stdin.as_mut().expect("not at its end");
    writeln!(stdin, "{line}").expect("write to the console");
}
