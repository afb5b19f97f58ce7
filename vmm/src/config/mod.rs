//! Flags as meant. What was typed lives in `cli`; a value of these types cannot be wrong any more.

use std::path::PathBuf;
use std::time::Duration;

/// One machine, every knob resolved.
#[derive(Clone, Debug)]
pub struct Config {
    pub boot: Boot,
    /// 1 to 255.
    pub vcpus: u8,
    pub memory: Memory,
    pub pin: Pinning,
    /// `None`: the host's own.
    pub halt_poll_ns: Option<u32>,
    pub idle: Idle,
    pub pv: Pv,
    pub console: Console,
    pub reports: Vec<Report>,
    pub timeout: Option<Duration>,
    pub verbose: bool,
}

/// What runs.
#[derive(Clone, Debug, Default)]
pub struct Boot {
    /// `None`: the built-in guest kernel.
    pub kernel: Option<PathBuf>,
    pub initrd: Option<PathBuf>,
    pub cmdline: String,
    /// A kernel's `lib/modules/VERSION`; `None`: looked for beside the kernel.
    pub modules: Option<PathBuf>,
    pub protocol: Protocol,
    /// `NAME[,key=value…]`, in command-line order.
    pub workloads: Vec<String>,
}

/// How a kernel is entered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// Linux by its 64-bit entry; anything else by PVH.
    #[default]
    Auto,
    Linux,
    Pvh,
}

/// Guest memory: how much, and what backs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Bytes, a multiple of the backing's page size.
    pub size: u64,
    pub backing: Backing,
    pub prefault: bool,
}

/// The pages behind guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// 4 KiB pages, kept so by MADV_NOHUGEPAGE.
    Small,
    /// Transparent huge pages, asked for by MADV_HUGEPAGE.
    Thp,
    /// 2 MiB pages from the pool.
    Huge2M,
    /// 1 GiB pages from the pool.
    Huge1G,
}

/// Which thread runs where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pinning {
    /// `(vCPU, host CPU)`.
    pub vcpus: Vec<(u8, u16)>,
    /// `(worker, host CPU)`: `net0`, `blk1`.
    pub workers: Vec<(String, u16)>,
}

/// What an idle guest does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Idle {
    /// HLT exits to the host.
    #[default]
    Halt,
    /// The guest polls for work before it halts (cpuidle haltpoll).
    GuestPoll,
    /// HLT and MWAIT don't exit (KVM_CAP_X86_DISABLE_EXITS).
    Native,
}

/// KVM's paravirtual features shown to the guest; `None`: KVM's own choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pv {
    pub ipi: Option<bool>,
    pub eoi: Option<bool>,
    pub tlb: Option<bool>,
    pub yield_: Option<bool>,
    pub steal: Option<bool>,
    pub unhalt: Option<bool>,
}

/// Where the serial console goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Console {
    #[default]
    Stdio,
    File(PathBuf),
    /// No serial port at all.
    None,
}

/// An exit report to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub format: Format,
    /// `None`: stderr.
    pub file: Option<PathBuf>,
}

/// What a report looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
}
