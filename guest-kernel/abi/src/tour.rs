//! What the built-in kernel runs where nobody asked for anything: one mechanism after the other, a
//! few seconds in all.

/// One stop.
#[derive(Debug)]
pub struct Stop {
    /// As one would ask for it by `--workload`.
    pub workload: &'static str,
    /// What it shows, one line.
    pub shows: &'static str,
}

/// vCPUs of the tour: some stops have two sides.
pub const VCPUS: u8 = 2;

pub const TOUR: [Stop; 13] = [
    stop("null,gate=call", "a call into the kernel that is one: no crossing, no exit"),
    stop("null,gate=syscall", "the same by a system call: a crossing, still no exit"),
    stop("probe,what=gate", "to ring 0 and back through an interrupt gate"),
    stop("probe,what=cpuid,items=2000", "an instruction that the host kernel answers: one exit each"),
    stop("probe,what=pio,items=2000", "a port that the monitor answers: an exit to user space each"),
    stop("probe,what=mmio,items=2000", "the same by a load from where no memory is"),
    stop("probe,what=hlt,items=2000", "a timer is set, the CPU halts, the interrupt wakes it"),
    stop("probe,what=ipi-halt,items=1000", "one CPU wakes another that has halted"),
    stop("ipc,items=5000,spin=200", "two threads take turns; who waits, halts: an exit and an IPI each"),
    stop("ipc,items=5000,spin=200,idle=spin:200", "who waits looks a little longer before it halts"),
    stop("probe,what=touch", "memory touched for the first time: page faults of the host's page size"),
    stop("gups,size=64m,items=2m", "memory touched at random: no exit, but address translation"),
    stop("jitter,items=300", "a thread wakes every millisecond: how late"),
];

/// What to try next.
pub const NEXT: [&str; 3] = [
    "vmm --workload ipc,items=20000 --vcpus 2 --pin 0@0,1@1",
    "vmm --workload probe,what=touch --thp=off",
    "vmm --workload ipc,items=20000 --vcpus 2 --halt-poll 200000",
];

const fn stop(workload: &'static str, shows: &'static str) -> Stop {
    Stop { workload, shows }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Spec;

    #[test]
    fn every_stop_is_a_workload_of_the_built_in_kernel() {
        for stop in &TOUR {
            assert!(Spec::parse(stop.workload).is_ok_and(|spec| spec.workload.places.kernel), "{stop:?}");
        }
    }
}
