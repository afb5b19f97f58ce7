//! What the console has carried, and what it has lost.

use std::fmt::Write;
use std::io;

use devices::line::Traffic;

/// What the console has carried.
#[derive(Debug, Default)]
pub struct Summary {
    /// Bytes at the guest's port.
    pub traffic: Traffic,
    /// Bytes written to stdout or the file.
    pub written: u64,
    /// Bytes of output dropped: nobody read them.
    pub dropped: u64,
    /// Keys dropped: the guest didn't read them.
    pub dropped_keys: u64,
    /// Why stdout or the file took no more.
    pub error: Option<io::Error>,
}

impl Summary {
    /// One line on what was lost; `None` where nothing was.
    pub fn loss(&self) -> Option<String> {
        let mut line = String::from("console");
        let mut between = ": ";
        // Writing to a String doesn't fail.
        if self.dropped > 0 {
            let _ = write!(line, "{between}{} of {} bytes of output lost: ", self.dropped, self.traffic.sent);
            let _ = match &self.error {
                Some(error) => write!(line, "write them: {error}"),
                None => write!(line, "the reader took too long"),
            };
            between = "; ";
        }
        if self.dropped_keys > 0 {
            let _ = write!(line, "{between}{} keys lost: the guest read none", self.dropped_keys);
        }
        (line.len() > "console".len()).then_some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_said_and_nothing_else() {
        let traffic = Traffic { sent: 10, received: 0 };
        let mut summary = Summary { traffic, written: 10, ..Summary::default() };
        assert_eq!(summary.loss(), None);
        summary.dropped = 7;
        assert_eq!(
            summary.loss().as_deref(),
            Some("console: 7 of 10 bytes of output lost: the reader took too long")
        );
        summary.error = Some(io::ErrorKind::BrokenPipe.into());
        summary.dropped_keys = 3;
        let line = "console: 7 of 10 bytes of output lost: write them: broken pipe; 3 keys lost: the guest read none";
        assert_eq!(summary.loss().as_deref(), Some(line));
    }
}
