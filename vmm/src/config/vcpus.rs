//! `--vcpus`: how many virtual CPUs.

use std::num::IntErrorKind;

/// Why there cannot be so many vCPUs.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum VcpusError {
    #[error("not a number; from 1 to 255")]
    NotANumber,
    #[error("a machine has at least 1 vCPU")]
    Zero,
    // xAPIC identifiers, which every guest can start with, have eight bits, and 255 is the broadcast.
    #[error("a machine has at most 255 vCPUs")]
    TooMany,
}

/// 1 to 255.
pub fn parse(text: &str) -> Result<u8, VcpusError> {
    match text.parse::<u8>() {
        Ok(0) => Err(VcpusError::Zero),
        Ok(vcpus) => Ok(vcpus),
        Err(error) if *error.kind() == IntErrorKind::PosOverflow => Err(VcpusError::TooMany),
        Err(_) => Err(VcpusError::NotANumber),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_1_to_255() {
        assert_eq!(parse("1"), Ok(1));
        assert_eq!(parse("255"), Ok(255));
        assert_eq!(parse("0"), Err(VcpusError::Zero));
        assert_eq!(parse("256"), Err(VcpusError::TooMany));
        for text in ["", "-1", "two", "1.5", " 1"] {
            assert_eq!(parse(text), Err(VcpusError::NotANumber), "{text}");
        }
    }
}
