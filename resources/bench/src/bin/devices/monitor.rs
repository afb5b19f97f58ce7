//! The settings that are compared: a monitor and how it serves its devices, on the same kernel,
//! initramfs, disk, tap and memory.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bench::sys::Terminal;

use crate::guest::{EXIT_PORT, TERMINAL};
use crate::server::TAP;
use crate::work::Work;

/// Who serves, and how.
#[derive(Clone, Debug)]
pub struct Setting {
    pub name: String,
    pub kind: Kind,
    /// The kernel's vhost serves the network card.
    pub vhost: bool,
    /// The device whose loads it is for, where it is for one.
    only: Option<Device>,
    /// Another build of `vmm`.
    program: Option<PathBuf>,
    /// Further arguments of `vmm`, `engine=…` and `queues=…` of its disk, and `name=value` of the guest's
    /// kernel.
    pub knobs: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Device {
    Disk,
    Card,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Vmm,
    Microvm,
    Q35,
    Alioth,
}

/// What every machine of a run gets.
#[derive(Debug)]
pub struct Parts {
    pub vmm: PathBuf,
    /// Where it is to be had, and a stdin, for it will have a terminal.
    pub alioth: Option<(PathBuf, Terminal)>,
    pub kernel: PathBuf,
    pub initrd: PathBuf,
    pub disk: PathBuf,
}

/// Guest memory in MiB; one vCPU.
const MEMORY: u32 = 256;

/// The knobs that each device's loads gain most by. A driver that polls, on a queue of its own, is never
/// interrupted, and a worker that polls for longer than the guest needs to find a request is hardly ever
/// kicked. (Who waits for the wire needs a CPU for its other end, and there are but two: there the guest alone
/// polls.)
const DISK: &str = "--busy-poll 20000 queues=2 possible_cpus=2 bench_poll=1";
const CARD: &str = "sysctl.net.core.busy_read=1000";

/// The others as they come, and `vmm` as it comes and with its best knobs.
pub fn all() -> Vec<Setting> {
    let setting = |name: &str, kind, vhost, only, knobs| Setting {
        name: name.into(),
        kind,
        vhost,
        only,
        program: None,
        knobs: words(knobs),
    };
    let card = Some(Device::Card);
    vec![
        setting("vmm", Kind::Vmm, false, None, ""),
        setting("vmm disk", Kind::Vmm, false, Some(Device::Disk), DISK),
        setting("vmm card", Kind::Vmm, false, card, CARD),
        setting("vmm vhost", Kind::Vmm, true, card, ""),
        setting("vmm vhost card", Kind::Vmm, true, card, CARD),
        setting("microvm", Kind::Microvm, false, None, ""),
        setting("microvm vhost", Kind::Microvm, true, card, ""),
        setting("q35", Kind::Q35, false, None, ""),
        setting("q35 vhost", Kind::Q35, true, card, ""),
        setting("alioth", Kind::Alioth, false, None, ""),
    ]
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(Into::into).collect()
}

impl Setting {
    /// `vmm` with knobs of the caller's.
    pub fn with(knobs: &str) -> Setting {
        let knobs = words(knobs);
        let vhost = knobs.iter().any(|knob| knob == "--vhost");
        Setting { name: knobs.join(" "), kind: Kind::Vmm, vhost, only: None, program: None, knobs }
    }

    /// The same by another build of `vmm`.
    pub fn by(&self, program: &Path) -> Setting {
        let name = format!("{} (against)", self.name);
        Setting { name, program: Some(program.into()), ..self.clone() }
    }

    /// True if all of its knobs are the defaults.
    pub fn plain(&self) -> bool {
        self.knobs.is_empty()
    }

    /// What it makes a difference for.
    pub fn works(&self, all: &[Work]) -> Vec<Work> {
        let only = if self.vhost { Some(Device::Card) } else { self.only };
        let device = |work: &Work| if work.is_disk() { Device::Disk } else { Device::Card };
        all.iter().copied().filter(|work| only.is_none_or(|only| only == device(work))).collect()
    }

    /// The command that boots the machine; the guest's serial console is stdout.
    pub fn command(&self, parts: &Parts, parameters: &str) -> Command {
        let further =
            self.knobs.iter().filter(|knob| is_parameter(knob)).cloned().collect::<Vec<_>>().join(" ");
        // KVM hands QEMU a task register that is busy, which QEMU's own emulation of a processor, in the lab, takes
        // for none: no process may use ports once a q35 has set its vCPU's registers.
        let voice = if self.kind == Kind::Q35 { format!("{TERMINAL}=/dev/ttyS0 ") } else { String::new() };
        let parameters = format!("console=ttyS0 quiet reboot=t panic=-1 {voice}{further} {parameters}");
        let mut command = match self.kind {
            Kind::Vmm => self.vmm(parts),
            Kind::Microvm | Kind::Q35 => self.qemu(&parts.disk),
            Kind::Alioth => alioth(parts),
        };
        let [kernel, initrd, cmdline] = match self.kind {
            Kind::Vmm => ["--kernel", "--initrd", "--cmdline"],
            Kind::Alioth => ["--pvh", "--initramfs", "--cmdline"],
            Kind::Microvm | Kind::Q35 => ["-kernel", "-initrd", "-append"],
        };
        command.arg(kernel).arg(&parts.kernel).arg(initrd).arg(&parts.initrd).arg(cmdline).arg(parameters);
        let terminal = parts.alioth.as_ref().filter(|_| self.kind == Kind::Alioth);
        let stdin =
            terminal.and_then(|(_, terminal)| terminal.stdin().ok()).map_or(Stdio::null(), Stdio::from);
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn vmm(&self, parts: &Parts) -> Command {
        let mut command = Command::new(self.program.as_ref().unwrap_or(&parts.vmm));
        command.arg("--memory").arg(format!("{MEMORY}M")).args(["--report", "text"]);
        let mut disk = format!("path={}", parts.disk.display());
        for key in self.knobs.iter().filter(|knob| is_disks(knob)) {
            disk = format!("{disk},{key}");
        }
        command.arg("--disk").arg(disk);
        command.arg("--net").arg(format!("tap={TAP},vhost={}", if self.vhost { "on" } else { "off" }));
        command.args(self.knobs.iter().filter(|knob| !is_parameter(knob) && !is_disks(knob)));
        command
    }

    fn qemu(&self, disk: &Path) -> Command {
        let mut command = Command::new("qemu-system-x86_64");
        let (machine, bus) = if self.kind == Kind::Microvm { ("microvm", "device") } else { ("q35", "pci") };
        command.args(["-M", machine, "-accel", "kvm", "-cpu", "host", "-smp", "1"]);
        command.arg("-m").arg(MEMORY.to_string());
        command.args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
            "-serial",
            "stdio",
        ]);
        command.arg("-device").arg(format!("isa-debug-exit,iobase={EXIT_PORT:#x},iosize=4"));
        command.arg("-drive").arg(format!("if=none,id=disk,format=raw,file={}", disk.display()));
        command.arg("-device").arg(format!("virtio-blk-{bus},drive=disk"));
        let vhost = if self.vhost { "on" } else { "off" };
        command.arg("-netdev");
        command.arg(format!("tap,id=net,ifname={TAP},script=no,downscript=no,vhost={vhost}"));
        // Nothing boots from the network: without its firmware, which is a package of its own.
        let firmware = if self.kind == Kind::Q35 { ",romfile=" } else { "" };
        command.arg("-device").arg(format!("virtio-net-{bus},netdev=net{firmware}"));
        command
    }
}

/// A monitor that is on crates.io (`cargo install alioth-cli`), and among the fastest peers at both devices.
fn alioth(parts: &Parts) -> Command {
    let program = parts.alioth.as_ref().map_or(Path::new("alioth"), |(program, _)| program);
    let mut command = Command::new(program);
    command.args(["boot", "--cpu", "count=1", "--memory"]).arg(format!("size={MEMORY}M"));
    command.arg("--blk").arg(format!("file,path={}", parts.disk.display()));
    command.arg("--net").arg(format!("if={TAP},mac=02:77:00:00:00:02,mtu=1500"));
    command
}

/// True for a key of the disk.
fn is_disks(knob: &str) -> bool {
    ["engine=", "queues="].iter().any(|key| knob.starts_with(key))
}

/// True for `name=value` of the guest's kernel.
fn is_parameter(knob: &str) -> bool {
    knob.contains('=') && !knob.starts_with('-') && !is_disks(knob)
}
