//! `--idle` and `--halt-poll`: what happens when a vCPU has nothing to do.

use std::num::IntErrorKind;
use std::str::FromStr;

use super::word::{self, UnknownWord};

/// What an idle guest does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Idle {
    /// HLT exits to the host.
    #[default]
    Halt,
    /// The guest polls for work before it halts (cpuidle haltpoll).
    GuestPoll,
    /// HLT and MWAIT don't exit (KVM_CAP_X86_DISABLE_EXITS).
    Native,
}

impl FromStr for Idle {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Idle, UnknownWord> {
        word::choose(text, &[("halt", Idle::Halt), ("guest-poll", Idle::GuestPoll), ("native", Idle::Native)])
    }
}

/// Why the host cannot poll so long.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum HaltPollError {
    #[error("not a whole number of nanoseconds; 0 turns polling off")]
    NotANumber,
    // KVM_CAP_HALT_POLL takes 32 bits (KVM api.rst §7.20).
    #[error("more than 4294967295 ns, the most that KVM takes")]
    TooLong,
}

/// Nanoseconds for KVM_CAP_HALT_POLL.
pub fn halt_poll(text: &str) -> Result<u32, HaltPollError> {
    text.parse::<u32>().map_err(|error| match error.kind() {
        IntErrorKind::PosOverflow => HaltPollError::TooLong,
        _ => HaltPollError::NotANumber,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nanoseconds_in_32_bits() {
        assert_eq!(halt_poll("0"), Ok(0));
        assert_eq!(halt_poll("4294967295"), Ok(u32::MAX));
        assert_eq!(halt_poll("4294967296"), Err(HaltPollError::TooLong));
        assert_eq!(halt_poll("50us"), Err(HaltPollError::NotANumber));
    }
}
