//! What each knob has become, in words: the `got` of `asked → got`.

use devices::virtio::polling::BusyPoll;
use devices::virtio::transport::pci::Kicks;

use crate::config::{Backing, Config, Idle, Knob, Memory, Transport};
use crate::kvm::vm;
use crate::machine::Applied;
use crate::machine::memory::MemoryEvidence;
use crate::run::threads::Usage;
use crate::sandbox::Made;

use super::text::units::size;

/// What has come of `knob` on this machine. `usages` is of its vCPU threads, by number.
pub fn words(
    knob: Knob,
    config: &Config,
    applied: &Applied,
    usages: &[(u8, Usage)],
    workers: &[(String, Vec<usize>)],
    memory: Option<&MemoryEvidence>,
    sandbox: Made,
) -> String {
    match knob {
        Knob::Vcpus => format!("{} threads", usages.len()),
        Knob::Pin => pins(usages, workers, config),
        Knob::CpuLimit => config.cpu_limit.map_or("no limit".into(), |percent| {
            format!("a control group of its own, with {percent} % of a CPU")
        }),
        Knob::HaltPoll => halt_poll(config.halt_poll_ns, &applied.halt_poll),
        Knob::Idle => idle(config.idle, applied.disabled_exits, applied.kvm_features).into(),
        Knob::Pv => format!("the guest sees {}", features(applied.kvm_features)),
        Knob::Memory | Knob::Prefault => match memory {
            Some(memory) => format!("{} resident of {}", size(memory.got_bytes), size(memory.asked.size)),
            None => "unknown: /proc/self/smaps cannot be read".into(),
        },
        Knob::Thp | Knob::Hugepages => match memory {
            Some(memory) => format!(
                "{} of {} resident in pages of {}",
                size(memory.as_asked_bytes),
                size(memory.got_bytes),
                size(memory.asked.backing.page_size())
            ),
            None => "unknown: /proc/self/smaps cannot be read".into(),
        },
        Knob::Disk => format!("{} attached", config.disks.len()),
        Knob::Net => format!("{} attached", config.nets.len()),
        Knob::Rng => if config.rng { "attached" } else { "none" }.into(),
        Knob::Vsock => config.vsock.map_or("none".into(), |vsock| format!("the guest is {}", vsock.cid)),
        Knob::Sandbox => confined(sandbox),
        _ if !config.has_virtio() => "nothing: there is no virtio device".into(),
        Knob::Vhost => {
            let served = config.nets.iter().filter(|net| net.by_kernel(config.virtio.vhost)).count();
            let disks = if config.disks.is_empty() { "" } else { "; Linux has no vhost for disks" };
            format!("{served} of {} network cards served by the kernel{disks}", config.nets.len())
        }
        Knob::Transport => match config.virtio.transport {
            Transport::Pci => "PCI functions with MSI-X".into(),
            Transport::Mmio => "register pages, a wire each".into(),
        },
        Knob::EventIdx => if config.virtio.event_idx { "offered" } else { "not offered" }.into(),
        Knob::Ioeventfd => {
            if config.virtio.ioeventfd { "kicks wake workers in the kernel" } else { "each kick is an exit" }
                .into()
        }
        Knob::Kicks => match (config.virtio.transport, config.virtio.kicks) {
            (Transport::Mmio, _) => "nothing: there is no PCI device",
            (_, Kicks::Port) => "a kick is an out",
            (_, Kicks::Memory) => "a kick is a store",
        }
        .into(),
        Knob::Irqfd => {
            if config.virtio.irqfd { "interrupts are writes to an fd" } else { "each interrupt is an ioctl" }
                .into()
        }
        Knob::FollowVcpu => match config.virtio.follow_vcpu {
            true => "workers may move to the CPU of the vCPU that waits for them",
            false => "workers go where the host's scheduler puts them",
        }
        .into(),
        Knob::BusyPoll => match config.virtio.busy_poll {
            BusyPoll::Adaptive => "workers poll for as long as a sleep costs, where that pays".into(),
            BusyPoll::For(time) => format!("workers poll for {} us", time.as_micros()),
        },
    }
}

fn confined(sandbox: Made) -> String {
    let files = sandbox.landlock.map(|version| format!("files by Landlock {version}"));
    let calls = sandbox.seccomp.then(|| "system calls by seccomp".to_owned());
    match [calls, files].into_iter().flatten().collect::<Vec<_>>().join(", ") {
        nothing if nothing.is_empty() => "nothing is forbidden".into(),
        limits => format!("limits {limits}"),
    }
}

/// Size and backing of guest memory.
pub fn memory(asked: &Memory) -> String {
    let backing = match asked.backing {
        Backing::Small => "4 KiB pages",
        Backing::Thp => "transparent huge pages",
        Backing::Huge2M => "2 MiB pages of the pool",
        Backing::Huge1G => "1 GiB pages of the pool",
    };
    let prefault = if asked.prefault { ", prefaulted" } else { "" };
    let shared = if asked.shared { ", shared for vhost-user" } else { "" };
    format!("{} in {backing}{prefault}{shared}", size(asked.size))
}

fn pins(usages: &[(u8, Usage)], workers: &[(String, Vec<usize>)], config: &Config) -> String {
    let pinned = usages.iter().filter(|(id, _)| config.pin.vcpus.iter().any(|(vcpu, _)| vcpu == id));
    let one = |(id, usage): &(u8, Usage)| {
        let cpus: Vec<String> = usage.allowed.iter().map(usize::to_string).collect();
        let moves = usage.migrations.map_or(String::new(), |n| format!(", moved {n} times"));
        format!("vCPU {id} on {}{moves}", cpus.join(" "))
    };
    let worker = |(name, _): &(String, u16)| {
        let started = workers.iter().find(|(worker, _)| worker == name);
        started.map_or(format!("{name} never started"), |(_, cpus)| {
            let cpus: Vec<String> = cpus.iter().map(usize::to_string).collect();
            format!("{name} on {}", cpus.join(" "))
        })
    };
    pinned.map(one).chain(config.pin.workers.iter().map(worker)).collect::<Vec<_>>().join("; ")
}

fn halt_poll(asked: Option<u32>, applied: &Result<(), vm::Error>) -> String {
    match (asked, applied) {
        (_, Err(error)) => error.to_string(),
        (Some(ns), Ok(())) => format!("{ns} ns"),
        (None, Ok(())) => "the host's own".into(),
    }
}

fn idle(asked: Idle, disabled: u64, kvm_features: u32) -> &'static str {
    use kvm_bindings::{KVM_X86_DISABLE_EXITS_HLT as HLT, KVM_X86_DISABLE_EXITS_MWAIT as MWAIT};
    /// KVM_FEATURE_POLL_CONTROL: the guest may ask the host not to poll as well.
    const POLL_CONTROL: u32 = 12;
    let (hlt, mwait) = (disabled & u64::from(HLT) != 0, disabled & u64::from(MWAIT) != 0);
    match asked {
        Idle::Halt => "HLT exits",
        Idle::GuestPoll if kvm_features >> POLL_CONTROL & 1 != 0 => {
            "the guest may poll, and stop the host from it"
        }
        Idle::GuestPoll => "the guest may poll, this KVM lets it not stop the host's own",
        Idle::Native if hlt && mwait => "HLT and MWAIT don't exit",
        Idle::Native if hlt => "HLT doesn't exit, MWAIT does",
        Idle::Native if mwait => "MWAIT doesn't exit, HLT does",
        Idle::Native => "nothing: this KVM cannot let HLT and MWAIT go",
    }
}

/// CPUID 0x40000001, EAX (KVM cpuid.rst), in the words of `--pv`.
fn features(eax: u32) -> String {
    const BITS: [(u32, &str); 6] =
        [(11, "ipi"), (6, "eoi"), (9, "tlb"), (13, "yield"), (5, "steal"), (7, "unhalt")];
    let shown: Vec<&str> =
        BITS.iter().filter(|(bit, _)| eax >> bit & 1 != 0).map(|(_, name)| *name).collect();
    if shown.is_empty() { "none of them".into() } else { shown.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_says_what_kvm_let_go() {
        assert_eq!(idle(Idle::Native, 0, 0), "nothing: this KVM cannot let HLT and MWAIT go");
        assert_eq!(idle(Idle::Native, 3, 0), "HLT and MWAIT don't exit");
        assert_eq!(idle(Idle::Halt, 0, 0), "HLT exits");
    }

    #[test]
    fn what_the_sandbox_limits() {
        assert_eq!(confined(Made::default()), "nothing is forbidden");
        let made = Made { seccomp: true, landlock: Some(7) };
        assert_eq!(confined(made), "limits system calls by seccomp, files by Landlock 7");
    }

    #[test]
    fn features_by_the_words_of_the_flag() {
        assert_eq!(features(1 << 11 | 1 << 5 | 1), "ipi, steal");
        assert_eq!(features(0), "none of them");
    }

    #[test]
    fn a_refused_knob_says_why() {
        let refused = Err(vm::Error::Lacks("KVM_CAP_HALT_POLL"));
        assert!(halt_poll(Some(5), &refused).contains("KVM_CAP_HALT_POLL"));
        assert_eq!(halt_poll(Some(5), &Ok(())), "5 ns");
    }
}
