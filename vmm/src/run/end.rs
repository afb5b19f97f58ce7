//! How a machine ended: the exit status, the report's word, and one line for the user.

use std::fmt::Write;

use devices::bus;

use super::machine::{Outcome, Why};
use super::supervise;
use super::vcpu::{Stop, Stopped};
use crate::status::Status;

/// The end of a machine, in the report's words (`guest.end`, `guest.code`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    pub status: Status,
    pub word: &'static str,
    pub code: Option<u64>,
    /// Why, in one line.
    pub line: String,
    /// Registers and last exits of the vCPU that failed.
    pub dump: Option<String>,
}

/// Reads the outcome. `panic`: what the kernel printed of its own panic.
pub fn of(outcome: &Outcome, panic: Option<String>) -> End {
    let end = |status, word, line: &str| End { status, word, code: None, line: line.into(), dump: None };
    let (id, stop) = match &outcome.why {
        Why::Vcpu(id, stop) => (*id, stop),
        Why::Outside(why) => {
            return match *why {
                supervise::End::Timeout => {
                    end(Status::Timeout, "timeout", "the time that --timeout gives is up")
                }
                supervise::End::Signal(number) => End {
                    code: Some(number.into()),
                    ..end(Status::Signal(number), "signal", &format!("ended by signal {number}"))
                },
                supervise::End::Escape | supervise::End::Machine => {
                    end(Status::Guest(0), "signal", "ended from the console")
                }
            };
        }
    };
    let dump = outcome.vcpus.iter().find(|v| v.stopped.id == id).map(|v| dump(&v.stopped));
    match stop {
        Stop::Asked(bus::End::Exit(code)) => End {
            code: Some((*code).into()),
            ..end(Status::Guest(*code), "exit", &format!("the guest ended with status {code}"))
        },
        Stop::Asked(bus::End::Shutdown) => end(Status::Guest(0), "shutdown", "the guest powered off"),
        Stop::Asked(bus::End::Reset) if panic.is_none() => {
            end(Status::Guest(0), "reset", "the guest asked for a reset")
        }
        Stop::Asked(bus::End::Panic | bus::End::Reset) => {
            let said = panic.map_or(String::new(), |said| format!(": {said}"));
            end(Status::Panic, "panic", &format!("the guest panicked{said}"))
        }
        Stop::TripleFault => End {
            dump,
            ..end(Status::TripleFault, "triple-fault", &format!("vCPU {id} shut down by a triple fault"))
        },
        Stop::InternalError { suberror, data } => {
            let line = format!(
                "vCPU {id}: KVM internal error {suberror} ({}), data {data:x?}",
                suberror_name(*suberror)
            );
            End { code: Some((*suberror).into()), dump, ..end(Status::Kvm, "internal-error", &line) }
        }
        Stop::FailedEntry { reason, cpu } => {
            let line =
                format!("vCPU {id}: entry into the guest failed on CPU {cpu}, hardware reason {reason:#x}");
            End { code: Some(*reason), dump, ..end(Status::Kvm, "failed-entry", &line) }
        }
        Stop::Unanswered(exit) => End {
            dump,
            ..end(Status::Kvm, "internal-error", &format!("vCPU {id}: exit {exit} has no answer"))
        },
        Stop::Failed(error) => End { dump, ..end(Status::Kvm, "internal-error", &error.to_string()) },
        Stop::Told => end(Status::Guest(0), "shutdown", "the machine ended"),
    }
}

/// KVM_INTERNAL_ERROR_* (KVM api.rst §5).
fn suberror_name(suberror: u32) -> &'static str {
    match suberror {
        1 => "emulation failed",
        2 => "simultaneous exceptions",
        3 => "event delivery failed",
        4 => "unexpected exit reason",
        _ => "unknown",
    }
}

fn dump(stopped: &Stopped) -> String {
    let mut text = stopped.registers.map(|registers| registers.to_string()).unwrap_or_default();
    text.push_str("\nlast exits, the newest last:");
    for exit in stopped.ledger.recent().iter() {
        let _ = write!(text, "\n  {} {:#x}, {} bytes", exit.kind.label(), exit.address, exit.size);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stopped_by(stop: Stop) -> End {
        let outcome = Outcome {
            why: Why::Vcpu(1, stop),
            vcpus: Vec::new(),
            boundaries: Vec::new(),
            span: (0, 0),
            stats: None,
            statistics: None,
            tracer: None,
        };
        of(&outcome, None)
    }

    #[test]
    fn what_kvm_gives_up_on_has_a_status_and_a_line_of_its_own() {
        let end = stopped_by(Stop::FailedEntry { reason: 0x8000_0021, cpu: 3 });
        assert_eq!((end.status, end.code), (Status::Kvm, Some(0x8000_0021)));
        assert_eq!(end.line, "vCPU 1: entry into the guest failed on CPU 3, hardware reason 0x80000021");
        let end = stopped_by(Stop::InternalError { suberror: 1, data: vec![7] });
        assert_eq!((end.status, end.code), (Status::Kvm, Some(1)));
        assert_eq!(end.line, "vCPU 1: KVM internal error 1 (emulation failed), data [7]");
    }
}
