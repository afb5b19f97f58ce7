//! A worker on the CPU of the vCPU that waits for it.
//!
//! Where a driver asks for one thing at a time, the guest has nothing to do until it is done. On another CPU
//! the worker then is in a race with the guest's way to its HLT: what is done early interrupts a guest that
//! runs (an exit for the interrupt, one for the window in which it can be taken, both between two CPUs), and
//! what is done late wakes one that sleeps. On the same CPU the worker runs inside of the exit that the kick
//! is, before the guest is entered again: its interrupt is then there when the guest is, and takes neither.
//! Where the host's scheduler lets the vCPU run on instead, the worker runs when the guest halts.
//!
//! A worker that finds what it looks for before it sleeps ([`polling`](super::polling)) saves the kick, too, and
//! stays where it is.
//!
//! What it takes from the guest by that is what the guest would have idled away, and nothing else may be
//! taken: so the [`rule`] tries out now and then whether the guest halts while it waits.

pub mod rule;

use std::time::{Duration, Instant};

use self::rule::{Deed, Go, Rule};
use super::counters::Counters;

/// The vCPU whose driver a worker serves, as the host knows it.
pub trait Vcpu: Send {
    /// How often it has halted; `None` where the host doesn't count that.
    fn halts(&self) -> Option<u64>;

    /// The host CPU that it is on, or was on last.
    fn cpu(&self) -> Option<usize>;

    /// Keeps the vCPU and the calling thread on that CPU, for the host's scheduler would part them again; `None`:
    /// lets both go wherever they might before. False where the host refuses.
    fn keep(&self, cpu: Option<usize>) -> bool;
}

/// A worker's place.
pub struct Beside {
    vcpu: Box<dyn Vcpu>,
    rule: Rule,
    kicked: bool,
    /// Of the vCPU, before the kick of a trial.
    halts: Option<u64>,
    /// Both are kept together.
    kept: bool,
    /// The host has refused.
    refused: bool,
}

impl Beside {
    pub fn new(vcpu: Box<dyn Vcpu>) -> Beside {
        Beside { vcpu, rule: Rule::default(), kicked: false, halts: None, kept: false, refused: false }
    }

    /// The worker has woken, by a kick or not, and has served nothing yet.
    pub fn woken(&mut self, kicked: bool) {
        self.kicked = kicked && !self.refused;
        if !self.kicked {
            if self.rule.slept(Instant::now()) == Go::Apart {
                self.keep(None);
            }
            return;
        }
        match self.rule.kicked(Instant::now()) {
            Deed::Serve => {}
            Deed::Wait(time) => self.try_out(time),
        }
    }

    /// Whether the worker is on its own, and nothing is being tried out.
    pub fn is_apart(&self) -> bool {
        !self.rule.is_beside() && !self.rule.is_trying()
    }

    /// How long the worker may sleep, in milliseconds: a vCPU is not kept for a driver that wants nothing.
    pub fn nap(&self) -> Option<i32> {
        self.rule.is_beside().then_some(rule::IDLE.as_millis() as i32)
    }

    fn try_out(&mut self, time: Duration) {
        std::thread::sleep(time);
        let halts = self.vcpu.halts();
        self.rule.tried(halts.zip(self.halts).is_some_and(|(now, before)| now > before));
    }

    /// It has served so many chains and will sleep; `closed` and `polls` as in [`Rule::served`].
    pub fn served(&mut self, chains: u64, closed: bool, polls: bool, counters: &Counters) {
        if self.rule.is_beside() {
            counters.beside.add(chains);
        }
        match self.rule.served(closed, self.kicked, polls, Instant::now()) {
            Go::Nowhere => {}
            Go::Beside => {
                if let Some(cpu) = self.vcpu.cpu() {
                    counters.follows.add(1);
                    self.keep(Some(cpu));
                }
            }
            Go::Apart => self.keep(None),
        }
        self.kicked = false;
        if self.rule.is_trying() {
            self.halts = self.vcpu.halts();
        }
    }

    fn keep(&mut self, cpu: Option<usize>) {
        let done = self.vcpu.keep(cpu);
        // Refused or not, it is let go once.
        self.kept = done && cpu.is_some();
        if !done {
            (self.rule, self.refused) = (Rule::default(), true);
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if self.kept {
            self.keep(None);
        }
    }
}

#[cfg(test)]
mod tests;
