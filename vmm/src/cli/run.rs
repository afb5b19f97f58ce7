//! `vmm [OPTIONS]`: one machine as typed. Each value is parsed by its knob's own file in
//! [`crate::config`]; here is only how the flags look.

use std::path::PathBuf;
use std::time::Duration;

use abi::tour;
use clap::ArgMatches;
use clap::parser::ValueSource;
use devices::virtio::polling::BusyPoll;
use devices::virtio::rate::Rate;
use devices::virtio::transport::pci::Kicks;

use super::usage::Usage;
use crate::config::disk::Medium;
use crate::config::keys::KeyError;
use crate::config::memory::{Pool, Size};
use crate::config::net::{UNLIMITED, Wire};
use crate::config::pin::Pin;
use crate::config::report::Request;
use crate::config::{
    Asked, Backing, Boot, Config, Console, Disk, Idle, Knob, Memory, Net, Pinning, Protocol, Pv, Report,
    Transport, Virtio, Vsock, boot, cpu_limit, idle, timeout, vcpus, virtio, word,
};

/// The flag whose file holds other flags.
pub const CONFIG: &str = "config";

/// Guest memory without `--memory`.
const DEFAULT_MEMORY: Size = Size(256 << 20);

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    guest: Guest,
    #[command(flatten)]
    cpus: Cpus,
    #[command(flatten)]
    memory: Ram,
    #[command(flatten)]
    devices: Devices,
    #[command(flatten)]
    safety: Safety,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "What runs")]
struct Guest {
    /// bzImage, ELF vmlinux or PVH ELF, told apart by content [default: the built-in guest kernel]
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Initial RAM disk; of the built-in kernel its root, a tar image [default for Linux: the VMM itself, as
    /// process 1]
    #[arg(long, value_name = "FILE")]
    initrd: Option<PathBuf>,
    /// Kernel command line; -v shows what the VMM adds to it
    #[arg(long, value_name = "STR", value_parser = boot::cmdline, allow_hyphen_values = true)]
    cmdline: Option<String>,
    /// The kernel's lib/modules/VERSION, for the built-in init [default: beside the kernel, if there]
    #[arg(long, value_name = "DIR")]
    modules: Option<PathBuf>,
    /// How the kernel is entered: auto, linux or pvh. auto unpacks a bzImage's LZ4 kernel before the start,
    /// which then runs without KASLR; linux leaves it to the kernel's own code [default: auto]
    #[arg(long, value_name = "PROTOCOL")]
    boot: Option<Protocol>,
    /// What the built-in kernel, or the built-in init of a Linux, runs: NAME[,key=value…]; may be
    /// repeated; `vmm --help workloads` lists them [default: a short tour of the built-in kernel]
    #[arg(long, value_name = "NAME", value_parser = boot::workload)]
    workload: Vec<String>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "CPU knobs")]
struct Cpus {
    /// Virtual CPUs, 1 to 255 [default: 1; 2 for the tour]
    #[arg(long, value_name = "N", value_parser = vcpus::parse)]
    vcpus: Option<u8>,
    /// THREAD@CPU: keep a vCPU's thread, or a device's workers, on this host CPU, as in 0@2,1@3,blk0@1
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pin: Vec<Pin>,
    /// Percent of one CPU for the whole machine, as in 50 or 150, by a control group of its own (cgroup v2)
    /// [default: no limit]
    #[arg(long, value_name = "PERCENT", value_parser = cpu_limit::parse)]
    cpu_limit: Option<u32>,
    /// Nanoseconds that KVM polls before it puts a halted vCPU to sleep; 0: never [default: the host's]
    #[arg(long, value_name = "NS", value_parser = idle::halt_poll)]
    halt_poll: Option<u32>,
    /// halt: HLT exits to the host; guest-poll: the guest polls before it halts (where Linux has no haltpoll
    /// governor, built-in init lets its CPUs poll and not halt); native: HLT and MWAIT don't exit
    /// [default: halt]
    #[arg(long, value_name = "HOW")]
    idle: Option<Idle>,
    /// ipi, eoi, tlb, yield, steal, unhalt: paravirtual features that the guest sees; ipi,eoi=off,tlb=on
    /// turns two off and one on [default: KVM's own]
    #[arg(long, value_name = "LIST=on|off")]
    pv: Option<Pv>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Memory knobs")]
struct Ram {
    /// Guest memory, as in 512M or 4G [default: 256M]
    #[arg(long, value_name = "SIZE")]
    memory: Option<Size>,
    /// Transparent huge pages; off: 4 KiB pages, even where the host says always [default: on]
    #[arg(long, value_name = "on|off", value_parser = word::switch)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    thp: Option<bool>,
    /// Huge pages from the host's pool, 2M or 1G [default: off; without a value: 2M]
    #[arg(long, value_name = "2M|1G|off")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "2M")]
    hugepages: Option<Pool>,
    /// Populate guest memory before the first instruction [default: off]
    #[arg(long, value_name = "on|off", value_parser = word::switch)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    prefault: Option<bool>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Device knobs")]
struct Devices {
    /// A raw image or block device as virtio disk: path=FILE[,ro][,direct][,engine=sync|uring]
    /// [,queues=N][,serial=S][,rate=BYTES+Nops in a second], or one that another process serves: vhost-user=SOCKET[,queues=N]; may be
    /// repeated [default engine: uring where this host has io_uring]
    #[arg(long, value_name = "KEYS")]
    disk: Vec<Disk>,
    /// A tap as virtio network card: tap=NAME or fd=N[:N…], [,mac=MAC][,queues=N][,offload=on|off]
    /// [,vhost=on|off][,rate=BYTES+Nops in a second], or a card whose frames another process carries: vhost-user=SOCKET[,…]; may be
    /// repeated
    #[arg(long, value_name = "KEYS")]
    net: Vec<Net>,
    /// The host's random numbers as virtio device [default: off]
    #[arg(long, value_name = "on|off", value_parser = word::switch)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    rng: Option<bool>,
    /// Sockets between the guest, which is cid=N, and programs of the host, by the kernel's vhost-vsock
    #[arg(long, value_name = "cid=N")]
    vsock: Option<Vsock>,
    /// The kernel's vhost serves what it can: network cards over a tap, no disks. A thread (net0sent) holds back
    /// its interrupts that only say that frames were sent, while frames come in [default: off]
    #[arg(long, value_name = "on|off", value_parser = word::switch)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    vhost: Option<bool>,
    /// How drivers find virtio devices: pci, with MSI-X, or mmio [default: pci]
    #[arg(long, value_name = "pci|mmio")]
    transport: Option<Transport>,
    /// VIRTIO_F_EVENT_IDX: driver and device say at which buffer they want to be told; off: a stream of
    /// datagrams (--workload udp,role=send) is a kick for each that finds the worker asleep [default: on]
    #[arg(long, value_name = "on|off", value_parser = word::switch)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    event_idx: Option<bool>,
    /// Kicks wake workers in the kernel; off: each is an exit to userspace [default: on]
    #[arg(long, value_name = "on|off", value_parser = word::switch)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    ioeventfd: Option<bool>,
    /// Where drivers kick a PCI device: at a port, or in memory, of which KVM must decode the store (AMD) and has no
    /// counter [default: port]
    #[arg(long, value_name = "port|memory", value_parser = virtio::kicks)]
    kicks: Option<Kicks>,
    /// Interrupts are writes to an fd; off: each is an ioctl [default: on]
    #[arg(long, value_name = "on|off", value_parser = word::switch)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    irqfd: Option<bool>,
    /// Microseconds that device workers poll their rings before they sleep. auto: a disk's or a tap's worker does so
    /// where it is asked for one thing at a time and the last ones came soon, for no longer than sleeping costs by
    /// its own measure (some 30 us on hardware); not where others want its CPU, nor with --cpu-limit
    /// (devices.queues.polls_found). A card's vhost is told to, where that is seen to make short messages more
    /// (devices.queues.looked_us) [default: auto]
    #[arg(long, value_name = "US|auto", value_parser = virtio::polling)]
    busy_poll: Option<BusyPoll>,
    /// A worker that is asked for one thing at a time, by a guest that halts meanwhile, moves to the CPU of the
    /// vCPU that waits for it, and away again when either ends. Of a device with one queue (a card: pair) for
    /// each vCPU; a worker that is pinned stays where it is; off: none moves, and each such request takes an
    /// exit or two more, for its interrupt or the halt (devices.queues.chains_beside) [default: on]
    #[arg(long, value_name = "on|off", value_parser = word::switch)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    follow_vcpu: Option<bool>,
}

impl Devices {
    /// The names of their worker threads, as `--pin` takes them.
    fn workers(&self) -> Vec<String> {
        let disks = self.disk.iter().enumerate().filter(|(_, disk)| matches!(disk.medium, Medium::Image(..)));
        let nets = self.net.iter().enumerate().filter(|(_, net)| !matches!(net.wire, Wire::VhostUser(_)));
        let disks = disks.map(|(i, _)| format!("blk{i}"));
        let rng = self.rng.unwrap_or(false).then(|| "rng0".to_owned());
        let vsock = self.vsock.map(|_| "vsock0".to_owned());
        disks.chain(nets.map(|(i, _)| format!("net{i}"))).chain(rng).chain(vsock).collect()
    }

    /// Whether another process serves one of them.
    fn vhost_user(&self) -> bool {
        self.disk.iter().any(|disk| matches!(disk.medium, Medium::VhostUser(_)))
            || self.net.iter().any(|net| matches!(net.wire, Wire::VhostUser(_)))
    }

    fn virtio(&self) -> Virtio {
        let usual = Virtio::default();
        Virtio {
            transport: self.transport.unwrap_or(usual.transport),
            vhost: self.vhost.unwrap_or(usual.vhost),
            event_idx: self.event_idx.unwrap_or(usual.event_idx),
            ioeventfd: self.ioeventfd.unwrap_or(usual.ioeventfd),
            kicks: self.kicks.unwrap_or(usual.kicks),
            irqfd: self.irqfd.unwrap_or(usual.irqfd),
            busy_poll: self.busy_poll.unwrap_or(usual.busy_poll),
            follow_vcpu: self.follow_vcpu.unwrap_or(usual.follow_vcpu),
        }
    }
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Safety knobs")]
struct Safety {
    /// Once it runs, the VMM gives up privileges, files and system calls that it needs no more; off: to debug
    /// it [default: on]
    #[arg(long, value_name = "on|off", value_parser = word::switch)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    sandbox: Option<bool>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Console, report and control")]
struct Output {
    /// Console: stdio, file=PATH or none; on a terminal, Ctrl-A x ends the machine. A serial port, or,
    /// with ,virtio, the hvc0 of a Linux, which costs no exits to userspace [default: stdio]
    #[arg(long, value_name = "WHERE[,virtio]")]
    console: Option<Console>,
    /// Exit report: text, json or none, to stderr or to :FILE; live: rates each second on stderr, too
    /// (from another terminal: vmm top PID); may be repeated [default: text]
    #[arg(long, value_name = "FORMAT[:FILE]")]
    report: Vec<Request>,
    /// Count and time each exit by the processor's reason, by programs in the kernel; needs CAP_BPF,
    /// CAP_PERFMON and tracefs, or root [default: off]
    #[arg(long, value_name = "on|off", value_parser = word::switch)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    trace_exits: Option<bool>,
    /// End the machine, with its report, after so many seconds; fractions allowed [default: never]
    #[arg(long, value_name = "SECONDS", value_parser = timeout::parse)]
    timeout: Option<Duration>,
    /// TOML file of these flags, without their dashes, as keys; flags win
    #[arg(long, value_name = "FILE", id = CONFIG)]
    _config: Option<PathBuf>,
    /// Say on stderr what the VMM does and adds
    #[arg(short, long, value_name = "on|off", value_parser = word::switch)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    verbose: Option<bool>,
}

impl Args {
    /// What these flags mean together.
    pub fn resolve(self, asked: Vec<Asked>) -> Result<Config, Usage> {
        let Args { guest, cpus, memory, devices, safety, output } = self;
        let by_kernel = |net: &Net| net.by_kernel(devices.virtio().vhost);
        let of_others = devices.vhost_user() || devices.vsock.is_some();
        if !devices.virtio().irqfd && (of_others || devices.net.iter().any(by_kernel)) {
            let why = KeyError::Whole("vhost and vhost-user raise their interrupts by irqfd alone");
            return Err(Usage::flag("irqfd", Some("off".into()), why));
        }
        if devices.net.iter().any(|net| by_kernel(net) && net.rate != Rate::default()) {
            return Err(Usage::flag("net", None, UNLIMITED));
        }
        let tour = guest.kernel.is_none() && guest.workload.is_empty();
        let vcpus = cpus.vcpus.unwrap_or(if tour { tour::VCPUS } else { 1 });
        let stops = || tour::TOUR.iter().map(|stop| stop.workload.to_owned()).collect();
        let backing = Backing::new(memory.thp, memory.hugepages)
            .map_err(|error| Usage::flag("hugepages", None, error))?;
        let (live, reports): (Vec<_>, Vec<_>) =
            output.report.into_iter().partition(|request| *request == Request::Live);
        let size = memory.memory.unwrap_or(DEFAULT_MEMORY);
        let boot = Boot {
            kernel: guest.kernel,
            initrd: guest.initrd,
            cmdline: guest.cmdline.unwrap_or_default(),
            modules: guest.modules,
            protocol: guest.boot.unwrap_or_default(),
            workloads: if tour { stops() } else { guest.workload },
        };
        let shared = devices.vhost_user();
        boot.check().map_err(|(flag, error)| Usage::flag(flag, None, error))?;
        let console = output.console.unwrap_or_default();
        if console.is_virtio() && boot.kernel.is_none() && !boot.storms() {
            let why = KeyError::Whole(
                "the built-in kernel has no driver for it: needs --kernel, or --workload chaos",
            );
            return Err(Usage::flag("console", Some("virtio".into()), why));
        }
        Ok(Config {
            boot,
            vcpus,
            memory: Memory::new(size, backing, memory.prefault.unwrap_or(false))
                .map(|memory| Memory { shared, ..memory })
                .map_err(|error| Usage::flag("memory", Some(size.to_string()), error))?,
            pin: Pinning::new(cpus.pin, vcpus, &devices.workers())
                .map_err(|error| Usage::flag("pin", None, error))?,
            cpu_limit: cpus.cpu_limit,
            halt_poll_ns: cpus.halt_poll,
            idle: cpus.idle.unwrap_or_default(),
            pv: cpus.pv.unwrap_or_default(),
            virtio: devices.virtio(),
            disks: devices.disk,
            nets: devices.net,
            rng: devices.rng.unwrap_or(false),
            vsock: devices.vsock,
            console,
            live: !live.is_empty(),
            reports: Report::all(reports).map_err(|error| Usage::flag("report", None, error))?,
            trace_exits: output.trace_exits.unwrap_or(false),
            timeout: output.timeout,
            sandbox: safety.sandbox.unwrap_or(true),
            verbose: output.verbose.unwrap_or(false),
            asked,
        })
    }
}

/// The knobs that were set, as written.
pub fn asked(matches: &ArgMatches) -> Vec<Asked> {
    let asked = |knob: Knob| {
        let values = matches.try_get_raw(&id(knob.flag())).ok()??;
        let value = values.map(|value| value.to_string_lossy()).collect::<Vec<_>>().join(",");
        Some(Asked { knob, value })
    };
    Knob::ALL.into_iter().filter_map(asked).collect()
}

/// A subcommand takes none of these flags.
pub fn none_given(matches: &ArgMatches) -> Result<(), Usage> {
    let stray = matches.ids().find(|id| matches.try_get_raw(id.as_str()).is_ok_and(|raw| raw.is_some()));
    match stray {
        None => Ok(()),
        Some(id) => Err(Usage {
            object: format!("--{}", id.as_str().replace('_', "-")),
            value: None,
            why: match matches.subcommand_name() {
                Some("compare") => "goes behind compare".into(),
                name => format!("is a flag of a machine, not of {}", name.unwrap_or("this")),
            },
        }),
    }
}

/// Whether `flag` was given, by whomever.
pub fn given(matches: &ArgMatches, flag: &str) -> bool {
    matches.value_source(&id(flag)) == Some(ValueSource::CommandLine)
}

/// How clap's derive names the field behind a flag.
fn id(flag: &str) -> String {
    flag.replace('-', "_")
}
