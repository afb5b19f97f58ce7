//! The monitors that are compared, on the same kernel, initramfs, memory and kernel parameters.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::guest::EXIT_PORT;

pub enum Monitor {
    Vmm(PathBuf),
    /// `-M microvm` as it comes, with nothing that nobody asked for.
    QemuMicrovm,
}

/// Guest memory in MiB; one vCPU.
pub const MEMORY: u32 = 256;

impl Monitor {
    pub fn name(&self) -> &'static str {
        match self {
            Monitor::Vmm(_) => "vmm",
            Monitor::QemuMicrovm => "qemu microvm",
        }
    }

    /// The command that boots `kernel`; the guest's serial console, if it has one, is stdout.
    pub fn command(&self, kernel: &Path, initrd: &Path, parameters: &str, serial: bool) -> Command {
        let console = if serial { "console=ttyS0 " } else { "" };
        let parameters = format!("{console}quiet reboot=t panic=-1 {parameters}");
        let mut command = match self {
            Monitor::Vmm(binary) => {
                let mut command = Command::new(binary);
                command.arg("--kernel").arg(kernel).arg("--initrd").arg(initrd);
                command.arg("--cmdline").arg(parameters);
                command.arg("--memory").arg(format!("{MEMORY}M"));
                command.args(["--console", if serial { "stdio" } else { "none" }, "--report", "none"]);
                command
            }
            Monitor::QemuMicrovm => {
                let mut command = Command::new("qemu-system-x86_64");
                command.args(["-M", "microvm", "-accel", "kvm", "-cpu", "host", "-smp", "1"]);
                command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
                command.arg("-m").arg(MEMORY.to_string());
                command.arg("-kernel").arg(kernel).arg("-initrd").arg(initrd);
                command.arg("-append").arg(parameters);
                command.args(["-serial", if serial { "stdio" } else { "none" }]);
                command.arg("-device").arg(format!("isa-debug-exit,iobase={EXIT_PORT:#x},iosize=4"));
                command
            }
        };
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        command
    }
}
