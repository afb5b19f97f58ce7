//! What is about the machine itself: its mechanisms, its faults, its end.

use super::super::{Kind, Workload};
use super::network::{ADDRESS, PEER};
use super::{EVERYWHERE, GUESTS, KERNEL, LINUX, LINUX_GUEST, MANY, PORT, key};

/// What a storm is made of.
pub const STORMS: &[&str] =
    &["ports", "mmio", "pci", "msix", "rings", "resets", "interrupts", "cpus", "msrs"];

pub const TOOL: Workload = Workload {
    name: "tool",
    about: "a program from a disk, run in that disk's root, beside which the others can be held: its figure is what it prints",
    places: LINUX,
    keys: &[
        key("command", Kind::Words, "true", "what its shell runs; natively, this host's"),
        PEER,
        ADDRESS,
        key("disk", Kind::Number { min: 0, max: 25 }, "0", "which disk of a guest's"),
        key("items", MANY, "1", "operations that counts are divided by: as many as the program makes"),
    ],
};

pub const PROBE: Workload = Workload {
    name: "probe",
    about: "one mechanism, many times: what it costs here; Linux has cpuid, syscall, timer and touch",
    places: EVERYWHERE,
    keys: &[
        key(
            "what",
            Kind::Choice(&[
                "cpuid", "pio", "mmio", "kick", "gate", "syscall", "hlt", "ipi-self", "ipi-spin", "ipi-halt",
                "timer", "touch", "steps",
            ]),
            "pio",
            "the mechanism",
        ),
        key("items", MANY, "10000", "times"),
    ],
};

pub const FAULT: Workload = Workload {
    name: "fault",
    about: "an exception, to see that it is reported and that the next workload goes on",
    places: KERNEL,
    keys: &[key("kind", Kind::Choice(&["ud", "pf", "gp", "de"]), "ud", "the exception")],
};

pub const CHAOS: Workload = Workload {
    name: "chaos",
    about: "storms of all that a hostile guest can do: the machine must stand, and still end on command",
    places: KERNEL,
    keys: &[
        key(
            "seed",
            Kind::Number { min: 0, max: u64::MAX },
            "1",
            "the same one storms the same way; 0: another one each time, which the result names",
        ),
        key("what", Kind::Some(STORMS), "all", "of what; cpus starts and stops the last CPU"),
        key("items", MANY, "100000", "deeds, all CPUs together"),
    ],
};

pub const EXIT: Workload = Workload {
    name: "exit",
    about: "ends the guest with this status",
    places: GUESTS,
    keys: &[key("status", Kind::Number { min: 0, max: 63 }, "0", "exit status")],
};

pub const READY: Workload =
    Workload { name: "ready", about: "ends as soon as the guest is up", places: GUESTS, keys: &[] };

pub const IDLE: Workload = Workload {
    name: "idle",
    about: "nothing, for `seconds`: what an idle guest costs its host",
    places: LINUX_GUEST,
    keys: &[],
};

pub const AGENT: Workload = Workload {
    name: "agent",
    about: "says that it takes calls (phase agent), gives back what its first caller sends; needs --vsock",
    places: LINUX_GUEST,
    keys: &[key("port", PORT, "1024", "where it takes calls")],
};

pub const SHELL: Workload =
    Workload { name: "shell", about: "a shell on the console", places: LINUX_GUEST, keys: &[] };

pub const POWEROFF: Workload =
    Workload { name: "poweroff", about: "ends the guest by ACPI power off", places: LINUX_GUEST, keys: &[] };

pub const REBOOT: Workload =
    Workload { name: "reboot", about: "ends the guest by a reboot", places: LINUX_GUEST, keys: &[] };

pub const PANIC: Workload =
    Workload { name: "panic", about: "ends the guest by a kernel panic", places: LINUX_GUEST, keys: &[] };

pub const TRIPLE_FAULT: Workload = Workload {
    name: "triple-fault",
    about: "ends the guest by a triple fault",
    places: LINUX_GUEST,
    keys: &[],
};
