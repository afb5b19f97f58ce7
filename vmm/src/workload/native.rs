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

/// Runs `texts` (`NAME[,key=value…]`) one after the other, once all are known to be good; a line on
/// `out` for each result. The first status that isn't 0 ends it.
pub fn run<'a>(texts: &'a [String], out: &mut dyn Write) -> Result<u8, Error<'a>> {
    let mut specs = Vec::new();
    for text in texts {
        let spec = Spec::parse(text).map_err(Error::Refused)?;
        if !spec.workload.places.native {
            return Err(Error::GuestOnly(text));
        }
        specs.push(spec);
    }
    for spec in specs {
        let mut written = Ok(());
        let status = super::run(&spec, &mut |record| {
            if written.is_ok() {
                written = line(record, out);
            }
        });
        written?;
        if status != 0 {
            return Ok(status);
        }
    }
    Ok(0)
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
    fn all_are_checked_before_one_runs() {
        let mut out = Vec::new();
        for (texts, words) in [
            (["null,calls=1", "nul"], "did you mean null?"),
            (["null,calls=1", "shell"], "workload shell needs a machine"),
        ] {
            let texts = texts.map(String::from);
            assert!(run(&texts, &mut out).unwrap_err().to_string().contains(words));
        }
        assert!(out.is_empty());
        assert_eq!(run(&["null,calls=1".to_owned()], &mut out).unwrap(), 0);
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 2);
    }
}
