//! The vCPU loop: run, count, answer.

use devices::bus::{Bus, Effect, End};

use crate::kvm::exit::Exit;
use crate::kvm::vcpu::{Registers, Vcpu};
use crate::kvm::vm;
use crate::run::ledger::{self, Ledger};
use crate::run::phases::Phases;
use crate::sys::clock::ticks;

/// The two address spaces of a machine.
#[derive(Default)]
pub struct Buses {
    pub port: Bus,
    pub memory: Bus,
}

/// Why a vCPU left its loop.
#[derive(Debug)]
pub enum Stop {
    /// The guest asked for it.
    Asked(End),
    TripleFault,
    InternalError {
        suberror: u32,
        data: Vec<u64>,
    },
    FailedEntry {
        reason: u64,
        cpu: u32,
    },
    /// An exit that this monitor has no answer to.
    Unanswered(String),
    /// `KVM_RUN` itself failed.
    Failed(vm::Error),
    /// Another thread told it to: it is not the one that ended the machine.
    Told,
}

/// What a thread hands back when its vCPU has stopped.
pub struct Stopped {
    pub id: u8,
    pub stop: Stop,
    pub ledger: Ledger,
    /// Ticks just before the first entry.
    pub first_entry: u64,
    /// How it looked, where it failed.
    pub registers: Option<Registers>,
}

/// Whether the loop goes on.
enum Answer {
    Enter,
    Stop(Stop),
}

/// Runs `vcpu` until the guest ends the machine, fails, or `told` says that another did; `told` may look
/// at the ledger.
pub fn run(
    vcpu: &mut Vcpu,
    buses: &Buses,
    phases: &Phases,
    mut told: impl FnMut(&Ledger) -> bool,
) -> Stopped {
    let mut ledger = Ledger::new(phases.number());
    let first_entry = ticks();
    let stop = loop {
        if told(&ledger) {
            break Stop::Told;
        }
        let exit = match vcpu.enter() {
            Ok(exit) => exit,
            Err(error) => break Stop::Failed(error),
        };
        ledger.returned(counted(&exit), ticks());
        let answer = answer(exit, buses, phases);
        ledger.answered(ticks());
        if let Answer::Stop(stop) = answer {
            break stop;
        }
    };
    let failed = !matches!(stop, Stop::Asked(_) | Stop::Told);
    let registers = if failed { vcpu.registers() } else { None };
    Stopped { id: vcpu.id, stop, ledger, first_entry, registers }
}

/// The exit as the ledger keeps it.
fn counted(exit: &Exit) -> ledger::Exit {
    let (kind, address) = exit.key();
    let size = match exit {
        Exit::Pio { data, .. } | Exit::Mmio { data, .. } => data.len() as u32,
        _ => 0,
    };
    ledger::Exit { kind, address, size }
}

fn answer(exit: Exit, buses: &Buses, phases: &Phases) -> Answer {
    match exit {
        Exit::Pio { port, size, write, data } => {
            for element in data.chunks_mut(usize::from(size.max(1))) {
                match access(&buses.port, port.into(), write, element, phases) {
                    Answer::Enter => {}
                    stop => return stop,
                }
            }
            Answer::Enter
        }
        Exit::Mmio { address, write, data } => access(&buses.memory, address, write, data, phases),
        Exit::Interrupted | Exit::IoapicEoi(_) => Answer::Enter,
        Exit::Shutdown => Answer::Stop(Stop::TripleFault),
        Exit::InternalError { suberror, data } => Answer::Stop(Stop::InternalError { suberror, data }),
        Exit::FailEntry { reason, cpu } => Answer::Stop(Stop::FailedEntry { reason, cpu }),
        other @ (Exit::Hlt | Exit::SystemEvent(_) | Exit::Other(_)) => {
            Answer::Stop(Stop::Unanswered(other.key().0.label()))
        }
    }
}

fn access(bus: &Bus, address: u64, write: bool, data: &mut [u8], phases: &Phases) -> Answer {
    if !write {
        bus.read(address, data);
        return Answer::Enter;
    }
    match bus.write(address, data) {
        Effect::None => Answer::Enter,
        Effect::End(end) => Answer::Stop(Stop::Asked(end)),
        Effect::Mark(mark) => {
            phases.open(mark);
            Answer::Enter
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::mark::Mark;
    use devices::bus::Registers;
    use std::sync::{Arc, Mutex};

    /// A store of 1 ends, of 2 marks; loads count up.
    struct Probe(u8);

    impl Registers for Probe {
        fn name(&self) -> String {
            "probe".into()
        }
        fn register(&self, _: u64, _: bool) -> &'static str {
            "DATA"
        }
        fn read(&mut self, _: u64, data: &mut [u8]) {
            self.0 += 1;
            data[0] = self.0;
        }
        fn write(&mut self, _: u64, data: &[u8]) -> Effect {
            match data {
                [1] => Effect::End(End::Exit(3)),
                [2] => Effect::Mark(Mark::Ready),
                _ => Effect::None,
            }
        }
    }

    fn machine() -> (Buses, Phases) {
        let mut buses = Buses::default();
        buses.port.attach(0x10, 1, Arc::new(Mutex::new(Probe(0)))).unwrap();
        (buses, Phases::new(0, Box::new(|| None)))
    }

    #[test]
    fn a_string_instruction_is_its_elements_in_order() {
        let (buses, phases) = machine();
        let mut data = [0; 3];
        answer(Exit::Pio { port: 0x10, size: 1, write: false, data: &mut data }, &buses, &phases);
        assert_eq!(data, [1, 2, 3]);
        let mut data = [2, 9, 1];
        let end = answer(Exit::Pio { port: 0x10, size: 1, write: true, data: &mut data }, &buses, &phases);
        assert!(matches!(end, Answer::Stop(Stop::Asked(End::Exit(3)))));
        assert_eq!(phases.close().len(), 1);
    }

    #[test]
    fn what_kvm_gives_up_on_stops_the_vcpu() {
        let (buses, phases) = machine();
        let stopped = |exit| match answer(exit, &buses, &phases) {
            Answer::Stop(stop) => stop,
            Answer::Enter => panic!("it goes on"),
        };
        assert!(matches!(
            stopped(Exit::FailEntry { reason: 0x8000_0021, cpu: 3 }),
            Stop::FailedEntry { reason: 0x8000_0021, cpu: 3 }
        ));
        assert!(matches!(
            stopped(Exit::InternalError { suberror: 1, data: vec![7] }),
            Stop::InternalError { suberror: 1, .. }
        ));
        assert!(matches!(stopped(Exit::Other(99)), Stop::Unanswered(_)));
    }

    #[test]
    fn nothing_there_reads_as_ones() {
        let (buses, phases) = machine();
        let mut data = [0; 4];
        answer(Exit::Mmio { address: 0xd000_0000, write: false, data: &mut data }, &buses, &phases);
        assert_eq!(data, [0xff; 4]);
    }
}
