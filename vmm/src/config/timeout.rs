//! `--timeout`: how long a machine may run.

use std::time::Duration;

/// Why a machine cannot run so long.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimeoutError {
    #[error("not a number of seconds, as in 30 or 0.5")]
    NotANumber,
    #[error("ends the machine before it starts; leave it out to have none")]
    Zero,
    #[error("at most {MAX} seconds; leave it out to have none")]
    TooLong,
}

/// 136 years, in seconds: fits every kernel timer.
const MAX: u32 = u32::MAX;

/// Seconds, fractions allowed; never zero.
pub fn parse(text: &str) -> Result<Duration, TimeoutError> {
    let seconds = text.parse::<f64>().map_err(|_| TimeoutError::NotANumber)?;
    if seconds > f64::from(MAX) {
        return Err(TimeoutError::TooLong);
    }
    match Duration::try_from_secs_f64(seconds) {
        Ok(Duration::ZERO) => Err(TimeoutError::Zero),
        Ok(timeout) => Ok(timeout),
        Err(_) => Err(TimeoutError::NotANumber),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_fractions() {
        assert_eq!(parse("30"), Ok(Duration::from_secs(30)));
        assert_eq!(parse("0.25"), Ok(Duration::from_millis(250)));
        for text in ["0", "0.0", "-0", "1e-12"] {
            assert_eq!(parse(text), Err(TimeoutError::Zero), "{text}");
        }
        for text in ["", "-1", "nan", "-inf", "10s"] {
            assert_eq!(parse(text), Err(TimeoutError::NotANumber), "{text}");
        }
        for text in ["inf", "1e300", "4294967296"] {
            assert_eq!(parse(text), Err(TimeoutError::TooLong), "{text}");
        }
    }
}
