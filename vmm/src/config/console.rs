//! `--console`: where the serial console goes.

use std::path::PathBuf;
use std::str::FromStr;

use super::word::{self, UnknownWord};

/// Where the serial console goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Console {
    #[default]
    Stdio,
    File(PathBuf),
    /// No serial port at all.
    None,
}

/// Why the console cannot go there.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConsoleError {
    #[error("names no file; file=PATH")]
    NoPath,
    #[error(transparent)]
    Unknown(#[from] UnknownWord),
}

impl FromStr for Console {
    type Err = ConsoleError;

    fn from_str(text: &str) -> Result<Console, ConsoleError> {
        match text.strip_prefix("file=") {
            Some("") => Err(ConsoleError::NoPath),
            Some(path) => Ok(Console::File(path.into())),
            None if text == "file" => Err(ConsoleError::NoPath),
            None => {
                let words =
                    [("stdio", Some(Console::Stdio)), ("file=PATH", None), ("none", Some(Console::None))];
                let words = words.each_ref().map(|(word, console)| (*word, console.as_ref()));
                word::choose(text, &words)?.cloned().ok_or(ConsoleError::NoPath)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_places() {
        assert_eq!("stdio".parse(), Ok(Console::Stdio));
        assert_eq!("none".parse(), Ok(Console::None));
        assert_eq!("file=a=b".parse(), Ok(Console::File("a=b".into())));
        assert_eq!("file=".parse::<Console>(), Err(ConsoleError::NoPath));
        let error = "nome".parse::<Console>().unwrap_err().to_string();
        assert_eq!(error, "not one of stdio, file=PATH, none; did you mean none?");
    }
}
