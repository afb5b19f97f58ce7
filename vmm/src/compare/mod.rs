//! `vmm compare`: the machine under several settings, interleaved, and what moved with the times.
//!
//! - [`plan`]        which settings, in which order
//! - [`session`]     every run in its turn; [`run`]: one of them, a process of its own
//! - [`length`]      how long it will take
//! - [`metric`], [`ledger`]  what a run has measured, and the mechanisms that it has counted
//! - [`bundle`]      all of it as data: `vmm.compare/1`
//! - [`statistics`]  medians, and how sure a ratio is
//! - [`analysis`]    bundle → results; [`limiter`]: what a setting probably waits for
//! - [`words`], [`table`], [`csv`], [`picture`]  for people

pub mod analysis;
pub mod bundle;
mod csv;
pub mod ledger;
mod length;
mod limiter;
pub mod metric;
pub mod picture;
pub mod plan;
mod run;
pub mod session;
pub mod statistics;
mod table;
pub mod words;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Serialize;

use crate::config::word::{self, UnknownWord};
use crate::status::{Failure, Status, say};

use analysis::ClassResult;
use bundle::Bundle;
use session::Plan;

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Job {
    pub source: Source,
    pub outputs: Vec<Output>,
}

/// Where the runs come from.
#[derive(Clone, Debug)]
pub enum Source {
    Runs(Plan),
    /// Bundles that were written before.
    Bundles(Vec<PathBuf>),
}

/// A file to write, beside the table on stdout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    pub format: Format,
    pub file: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Csv,
    Html,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutputError {
    #[error(transparent)]
    Unknown(#[from] UnknownWord),
    #[error("names no file, as in html:FILE")]
    NoFile,
}

impl FromStr for Output {
    type Err = OutputError;

    fn from_str(text: &str) -> Result<Output, OutputError> {
        let (format, file) = text.split_once(':').unwrap_or((text, ""));
        let words = [("json", Format::Json), ("csv", Format::Csv), ("html", Format::Html)];
        let format = word::choose(format, &words)?;
        if file.is_empty() { Err(OutputError::NoFile) } else { Ok(Output { format, file: file.into() }) }
    }
}

/// The bundle with what follows from it, as it is written.
#[derive(Serialize)]
struct Written<'a> {
    #[serde(flatten)]
    bundle: &'a Bundle,
    results: &'a [ClassResult],
}

/// Runs, or reads, and tells. The status is 1 where a run has failed or lacks a metric.
pub fn run(job: &Job) -> Result<Status, Failure> {
    for output in &job.outputs {
        bundle::check(&output.file)?;
    }
    let (bundle, signal) = match &job.source {
        Source::Runs(plan) => session::run(plan)?,
        Source::Bundles(files) => (joined(files)?, None),
    };
    let classes = analysis::analyse(&bundle);
    // A reader that has closed the pipe has read enough.
    let _ = std::io::stdout().write_all(table::render(&bundle, &classes).as_bytes());
    for output in &job.outputs {
        bundle::write(&output.file, &render(output.format, &bundle, &classes))?;
    }
    let lost = bundle.runs.iter().filter(|run| run.failed.is_some()).count();
    if lost > 0 {
        say(format_args!("{lost} of {} runs lack a result", bundle.runs.len()));
    }
    Ok(match (signal, lost) {
        (Some(number), _) => Status::Signal(number),
        (None, 0) => Status::Guest(0),
        (None, _) => Status::Guest(1),
    })
}

/// What is written of a bundle in this format.
pub(crate) fn render(format: Format, bundle: &Bundle, classes: &[ClassResult]) -> String {
    match format {
        // Strings, numbers, lists: none of it can fail to be JSON.
        Format::Json => {
            serde_json::to_string_pretty(&Written { bundle, results: classes }).unwrap_or_default() + "\n"
        }
        Format::Csv => csv::render(bundle),
        Format::Html => picture::page(bundle, classes),
    }
}

fn joined(files: &[impl AsRef<Path>]) -> Result<Bundle, Failure> {
    let mut bundles = files.iter().map(|file| Bundle::read(file.as_ref()));
    let Some(first) = bundles.next() else {
        return Err(Failure::new(Status::Usage, "--from: names no bundle"));
    };
    let mut whole = first?;
    for bundle in bundles {
        whole.join(bundle?);
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_formats_with_files() {
        let output = Output { format: Format::Html, file: "a:b".into() };
        assert_eq!("html:a:b".parse(), Ok(output));
        assert_eq!("html".parse::<Output>(), Err(OutputError::NoFile));
        let error = "htm:x".parse::<Output>().unwrap_err().to_string();
        assert_eq!(error, "not one of json, csv, html; did you mean html?");
    }

    #[test]
    fn what_is_written_is_read_again() {
        let bundle = bundle::tests::sample();
        let text = render(Format::Json, &bundle, &analysis::analyse(&bundle));
        let path = std::env::temp_dir().join(format!("vmm-written-{}.json", std::process::id()));
        std::fs::write(&path, text).unwrap();
        assert_eq!(joined(&[&path]).unwrap(), bundle);
        std::fs::remove_file(path).unwrap();
    }
}
