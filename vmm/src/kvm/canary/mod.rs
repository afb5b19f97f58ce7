//! Which of KVM's counters this host moves.
//!
//! A counter that reads 0 may mean that nothing happened, or that this kind of host never counts
//! that thing. A machine of seventy instructions with known activity tells the two apart: what it
//! moved, counts here; what it did not move is worth no zero, and the report says `null`. (What a
//! guest itself has moved needs no canary.)
//!
//! It runs once, after the guest has ended, in a few milliseconds, and bounds itself: whatever goes
//! wrong ends it early, and what it has learned until then holds.

pub mod guest;
mod program;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use kvm_ioctls::{Kvm, VcpuExit};

use crate::kvm::class::Class;
use crate::kvm::stats::Statistics;
use crate::sys::alarm::Alarm;

use guest::Guest;
use program::{AWAKE, DONE, FLAG, STEPS, Step};

/// No host that works needs more, emulated ones included.
const LIMIT: Duration = Duration::from_millis(500);
/// How late the limit is noticed. Much shorter, and a slow host does nothing but wake up.
const BEAT: Duration = Duration::from_millis(20);
/// How long the step that spins does so.
const SPIN: Duration = Duration::from_millis(1);

/// What the canary saw.
#[derive(Clone, Debug, Default)]
pub struct Canary {
    vm: BTreeSet<Box<str>>,
    vcpu: BTreeSet<Box<str>>,
    /// What ended it before its last step.
    pub cut_short: Option<String>,
}

impl Canary {
    /// Runs one on this host, which is of this class.
    pub fn run(kvm: &Kvm, class: Class) -> Canary {
        let mut canary = Canary::default();
        let end = canary.observe(kvm, class);
        canary.cut_short = end.err();
        canary
    }

    /// A canary that saw these counters move, of a VM and of a vCPU.
    #[cfg(test)]
    pub fn saw(vm: &[&str], vcpu: &[&str]) -> Canary {
        let set = |names: &[&str]| names.iter().map(|&name| name.into()).collect();
        Canary { vm: set(vm), vcpu: set(vcpu), cut_short: None }
    }

    /// Whether a VM's counter of this name moves here, as far as is known.
    pub fn moves_vm(&self, name: &str) -> bool {
        self.vm.contains(name)
    }

    /// Whether a vCPU's counter of this name moves here, as far as is known.
    pub fn moves_vcpu(&self, name: &str) -> bool {
        self.vcpu.contains(name)
    }

    fn observe(&mut self, kvm: &Kvm, class: Class) -> Result<(), String> {
        let mut guest = Guest::new(kvm, &program::code())?;
        let statistics = Statistics::open(&guest.vm, [&guest.vcpu]).map_err(|error| error.to_string())?;
        let failed = |error| format!("set a timer: {error}");
        let alarm = Alarm::every(BEAT).map_err(failed)?;
        let limit = Instant::now() + LIMIT;
        for step in STEPS {
            match step {
                // Its ring 0 knows no hypercall and would not come to an end.
                Step::Hypercall if class == Class::Pvm => break,
                Step::Halt { .. } if self.moves_vcpu("halt_wakeup") => guest.raise(AWAKE)?,
                Step::Spin => alarm.beat(SPIN, BEAT).map_err(failed)?,
                _ => {}
            }
            prepare(&guest, step)?;
            let done = until_done(&mut guest, step, limit);
            self.note(&statistics);
            done.map_err(|error| format!("{step:?}: {error}"))?;
        }
        Ok(())
    }

    /// Remembers which counters have left zero.
    fn note(&mut self, statistics: &Statistics) {
        let Some(counters) = statistics.snapshot().and_then(|snapshot| statistics.counters(&snapshot)) else {
            return;
        };
        self.vm.extend(counters.of_vm().filter(|(_, value)| *value != 0).map(|(name, _)| name.into()));
        self.vcpu.extend(counters.of_vcpus().filter(|(_, value)| *value != 0).map(|(name, _)| name.into()));
    }
}

/// Sets up what `step` needs.
fn prepare(guest: &Guest, step: Step) -> Result<(), String> {
    match step {
        Step::Halt { ns } => guest.arm_lapic(ns),
        Step::Ipi => guest.arm_lapic(0),
        Step::Window => guest.arm_lapic(0).and_then(|()| guest.interrupt()),
        _ => Ok(()),
    }
}

/// Runs the guest to the end of its step.
fn until_done(guest: &mut Guest, step: Step, limit: Instant) -> Result<(), String> {
    loop {
        match guest.vcpu.run() {
            Ok(VcpuExit::IoOut(port, _)) if port == DONE => return Ok(()),
            Ok(VcpuExit::IoOut(..) | VcpuExit::MmioWrite(..)) => {}
            Ok(exit) => return Err(format!("ended by {exit:?}")),
            // The alarm, or a vCPU that was not ready yet.
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {
                if step == Step::Spin {
                    guest.raise(FLAG)?;
                }
            }
            Err(error) => return Err(error.to_string()),
        }
        if Instant::now() > limit {
            return Err(format!("no end after {} ms", LIMIT.as_millis()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_host_counts_is_seen_to_move() {
        let Ok(kvm) = Kvm::new() else {
            eprintln!("skipped: /dev/kvm cannot be opened here");
            return;
        };
        let canary = Canary::run(&kvm, Class::detect());
        assert_eq!(canary.cut_short, None);
        for name in ["exits", "mmio_exits", "halt_exits"] {
            assert!(canary.moves_vcpu(name), "{name}: {canary:?}");
        }
        assert!(!canary.moves_vcpu("no such counter"));
    }
}
