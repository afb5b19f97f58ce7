//! What to do about an exit, where that is known: a table, from the particular to the general.

struct Advice {
    /// How the device's name begins; empty: whichever it is.
    device: &'static str,
    /// How the register's name begins, or the reason; empty: whichever it is.
    words: &'static str,
    advice: &'static str,
}

const fn to(device: &'static str, words: &'static str, advice: &'static str) -> Advice {
    Advice { device, words, advice }
}

#[rustfmt::skip]
const TABLE: &[Advice] = &[
    to("serial.", "", "the kernel's console is the serial port: --cmdline quiet, or --console virtio"),
    to("exit-port", "", "what the guest tells vmm: marks and results"),
    to("pci-config", "", "PCI configuration, at start: only writes of it are exits"),
    to("pci-conf1", "", "a kernel that looks for PCI by ports, at start"),
    to("ioapic", "", "an interrupt by wire: --transport pci has messages instead"),
    to("", "InterruptACK", "each interrupt is acknowledged by an exit: --transport pci has none"),
    to("", "InterruptStatus", "each interrupt asks by an exit what it is: --transport pci does not"),
    to("", "QueueNotify", "kicks: --ioeventfd=on keeps them in the kernel, --event-idx=on makes them fewer"),
    to("", "NOTIFY", "kicks: --ioeventfd=on keeps them in the kernel, --event-idx=on makes them fewer"),
    to("", "local APIC", "the guest uses its local APIC by MMIO: x2APIC takes less"),
    to("", "ICR: IPI", "CPUs that wake each other: fewer vCPUs, --idle guest-poll, or a host with AVIC or IPI virtualization"),
    to("", "self IPI", "a CPU that interrupts itself"),
    to("", "EOI", "interrupts are acknowledged by exits: AVIC or APICv has none, --pv eoi=on fewer"),
    to("", "TSC deadline", "timers that the guest arms: a tickless guest arms fewer"),
    to("", "APIC timer", "timers that the guest arms: with a TSC deadline each is one exit"),
    to("", "SPEC_CTRL", "mitigations of the guest's kernel: mitigations= on its command line"),
    to("", "nested page fault: memory", "memory touched for the first time: --prefault, or larger pages by --thp, --hugepages"),
    to("", "EPT violation: memory", "memory touched for the first time: --prefault, or larger pages by --thp, --hugepages"),
    to("", "HLT", "vCPUs that fall asleep: --halt-poll, --idle guest-poll or native (sleep itself is not counted here)"),
    to("", "MWAIT", "vCPUs that fall asleep: --idle native lets them"),
    to("", "PAUSE", "vCPUs that spin for one that has no CPU: fewer vCPUs, or --pin"),
    to("", "CPUID", "a kernel asks at start; a program should ask once"),
    to("", "interrupt window", "interrupts that came while the guest had them off: AVIC or APICv needs no exit"),
    to("", "external interrupt", "interrupts of the host: --pin to CPUs that it leaves alone"),
    to("", "interrupted", "a signal to this process, or the end of the machine"),
    to("", "interrupt", "interrupts of the host: --pin to CPUs that it leaves alone"),
    to("", "preemption timer", "the guest's timer, kept by the processor"),
    to("", "port 0x70", "a clock (RTC) that is not there"),
    to("", "port 0x71", "a clock (RTC) that is not there"),
    to("", "port 0x80", "delays by a port: io_delay=none on the kernel's command line"),
    to("", "port", "nothing is at this port"),
    to("", "mmio", "nothing is at this address"),
];

/// For a row of this target, or of this reason where it has none.
pub fn of(reason: &str, target: Option<&str>) -> Option<&'static str> {
    let what = target.unwrap_or(reason);
    let register = what.split_once(' ').map_or(what, |(_, register)| register);
    let fits = |row: &&Advice| {
        what.starts_with(row.device) && (what.starts_with(row.words) || register.starts_with(row.words))
    };
    TABLE.iter().find(fits).map(|row| row.advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_particular_wins() {
        assert!(of("I/O write", Some("serial.0 THR")).unwrap().contains("quiet"));
        assert!(of("mmio-write", Some("blk0 InterruptACK")).unwrap().contains("--transport pci"));
        assert!(of("io-read", Some("port 0x71")).unwrap().contains("RTC"));
        assert!(of("io-read", Some("port 0x61")).unwrap().contains("nothing"));
        assert!(of("MSR write", Some("TSC deadline")).unwrap().contains("timers"));
        assert!(of("HLT", None).unwrap().contains("asleep"));
        assert_eq!(of("XSETBV", None), None);
        assert_eq!(of("MSR write", Some("MSR 0x1234")), None);
    }

    #[test]
    fn none_is_out_of_reach() {
        for row in TABLE {
            let found = of(row.words, Some(&format!("{} {}", row.device, row.words)));
            let found = if row.device.is_empty() { of(row.words, None) } else { found };
            assert_eq!(found, Some(row.advice));
        }
    }
}
