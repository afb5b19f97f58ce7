//! `--cpu-limit`: how much CPU time a machine may have.

/// Why a machine cannot have so much.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CpuLimitError {
    #[error("not a whole number of percent of one CPU, as in 50 or 150")]
    NotANumber,
    #[error("at least 1 percent; leave it out to have no limit")]
    Zero,
    #[error("at most {MOST} percent; leave it out to have no limit")]
    TooMuch,
}

/// A thousand CPUs.
const MOST: u32 = 100_000;

/// Percent of one CPU, for all threads of the machine together.
pub fn parse(text: &str) -> Result<u32, CpuLimitError> {
    match text.strip_suffix('%').unwrap_or(text).parse() {
        Ok(0) => Err(CpuLimitError::Zero),
        Ok(percent) if percent > MOST => Err(CpuLimitError::TooMuch),
        Ok(percent) => Ok(percent),
        Err(_) => Err(CpuLimitError::NotANumber),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_of_one_cpu() {
        assert_eq!([parse("1"), parse("50%"), parse("100000")], [Ok(1), Ok(50), Ok(100_000)]);
        assert_eq!(parse("0"), Err(CpuLimitError::Zero));
        assert_eq!(parse("100001"), Err(CpuLimitError::TooMuch));
        for text in ["", "%", "-1", "0.5", "50%%", "4294967296", "half"] {
            assert_eq!(parse(text), Err(CpuLimitError::NotANumber), "{text}");
        }
    }
}
