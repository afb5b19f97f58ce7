//! Flag → evidence: no knob without a number that moves with it.

/// A choice that changes how the machine runs, and not what it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knob {
    Vcpus,
    Pin,
    CpuLimit,
    HaltPoll,
    Idle,
    Pv,
    Memory,
    Thp,
    Hugepages,
    Prefault,
    Disk,
    Net,
    Rng,
    Vsock,
    Vhost,
    Transport,
    EventIdx,
    Ioeventfd,
    Kicks,
    Irqfd,
    BusyPoll,
    FollowVcpu,
    Sandbox,
}

/// A knob that the user set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub knob: Knob,
    /// As written: `on`, `2M`, `0@2,1@3`.
    pub value: String,
}

impl Knob {
    /// In the order of the help.
    pub const ALL: [Knob; 23] = [
        Knob::Vcpus,
        Knob::Pin,
        Knob::CpuLimit,
        Knob::HaltPoll,
        Knob::Idle,
        Knob::Pv,
        Knob::Memory,
        Knob::Thp,
        Knob::Hugepages,
        Knob::Prefault,
        Knob::Disk,
        Knob::Net,
        Knob::Rng,
        Knob::Vsock,
        Knob::Vhost,
        Knob::Transport,
        Knob::EventIdx,
        Knob::Ioeventfd,
        Knob::Kicks,
        Knob::Irqfd,
        Knob::BusyPoll,
        Knob::FollowVcpu,
        Knob::Sandbox,
    ];

    /// The flag without its dashes, which is also the key of the config file.
    pub fn flag(self) -> &'static str {
        match self {
            Knob::Vcpus => "vcpus",
            Knob::Pin => "pin",
            Knob::CpuLimit => "cpu-limit",
            Knob::HaltPoll => "halt-poll",
            Knob::Idle => "idle",
            Knob::Pv => "pv",
            Knob::Memory => "memory",
            Knob::Thp => "thp",
            Knob::Hugepages => "hugepages",
            Knob::Prefault => "prefault",
            Knob::Disk => "disk",
            Knob::Net => "net",
            Knob::Rng => "rng",
            Knob::Vsock => "vsock",
            Knob::Vhost => "vhost",
            Knob::Transport => "transport",
            Knob::EventIdx => "event-idx",
            Knob::Ioeventfd => "ioeventfd",
            Knob::Kicks => "kicks",
            Knob::Irqfd => "irqfd",
            Knob::BusyPoll => "busy-poll",
            Knob::FollowVcpu => "follow-vcpu",
            Knob::Sandbox => "sandbox",
        }
    }

    /// The numbers of the report that move when the knob works, as paths in its JSON.
    pub fn evidence(self) -> &'static [&'static str] {
        match self {
            Knob::Vcpus => &["time.vcpu_cpu_us"],
            Knob::Pin => &["vcpus.cpus", "vcpus.migrations"],
            Knob::CpuLimit => &["time.cpu_throttled", "time.cpu_throttled_us"],
            Knob::HaltPoll => &["halts.poll_attempted", "halts.poll_successful"],
            Knob::Idle => &["halts.exits", "exits.kernel.halt"],
            Knob::Pv => &["exits.kernel.hypercall"],
            Knob::Memory => &["memory.asked", "memory.got_bytes"],
            Knob::Thp | Knob::Hugepages => &["memory.coverage", "memory.pages_2m", "memory.pages_1g"],
            Knob::Prefault => &["memory.got_bytes", "exits.kernel.page_fault"],
            Knob::Rng => &["devices.name", "devices.operations.count"],
            Knob::Vsock => &["devices.name", "devices.data_path", "devices.queues.kicks"],
            Knob::Disk | Knob::Net => &["devices.name", "devices.data_path", "devices.queues.chains"],
            Knob::Vhost => &["devices.data_path", "devices.queues.kicks_seen", "devices.threads.cpu_us"],
            Knob::Transport => &["devices.transport", "devices.queues.interrupts"],
            Knob::EventIdx => &["devices.queues.kicks", "devices.queues.interrupts"],
            Knob::Ioeventfd => &["devices.queues.kicks", "devices.queues.kick_exits"],
            Knob::Kicks => &["exits.kernel.io", "exits.unexplained", "devices.queues.kicks"],
            Knob::Irqfd => &["devices.interrupts_by", "devices.queues.interrupts"],
            Knob::BusyPoll => &[
                "devices.queues.polls",
                "devices.queues.polls_found",
                "devices.queues.kicks",
                "devices.queues.looked_us",
            ],
            Knob::FollowVcpu => {
                &["devices.queues.follows", "devices.queues.chains_beside", "devices.queues.chains"]
            }
            Knob::Sandbox => &["sandbox.seccomp", "sandbox.landlock_version"],
        }
    }
}
