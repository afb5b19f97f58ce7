//! `vmm workload`: on this host's own kernel, for the baseline column.

use std::io::{self, Write};

use abi::record::Record;
use abi::workload::{Refusal, Spec};

#[derive(Debug, thiserror::Error)]
pub enum Error<'a> {
    #[error(transparent)]
    Refused(Refusal<'a>),
    #[error("workload {0} needs a machine: vmm --workload {0}")]
    GuestOnly(&'a str),
    #[error("write results: {0}")]
    Write(#[from] io::Error),
}

/// Runs `NAME[,key=value…]`; a line on `out` for each result. The status is that of the workload.
pub fn run<'a>(text: &'a str, out: &mut dyn Write) -> Result<u8, Error<'a>> {
    let spec = Spec::parse(text).map_err(Error::Refused)?;
    if !spec.workload.places.native {
        return Err(Error::GuestOnly(text));
    }
    let mut written = Ok(());
    let status = super::run(&spec, &mut |record| {
        if written.is_ok() {
            written = line(record, out);
        }
    });
    written?;
    Ok(status)
}

fn line(record: &Record<'_>, out: &mut dyn Write) -> io::Result<()> {
    let mut line = String::new();
    // Writing to a String cannot fail.
    let _ = record.encode(&mut line);
    writeln!(out, "{line}")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_run_here_is_refused() {
        let mut out = Vec::new();
        for (text, words) in [
            ("nul", "did you mean null?"),
            ("shell", "workload shell needs a machine"),
            ("exit=1", "needs a machine"),
        ] {
            assert!(run(text, &mut out).unwrap_err().to_string().contains(words));
        }
        assert!(out.is_empty());
        assert_eq!(run("null,calls=1", &mut out).unwrap(), 0);
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 2);
    }
}
