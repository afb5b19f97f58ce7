//! `--config FILE`: the same keys as TOML. A key becomes the flag that it names, so that both are
//! read by one parser; a key whose flag is given is left out.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};

use abi::workload::nearest;
use clap::{Arg, ArgAction, ArgMatches, Command};
use toml::{Table, Value};

use super::run;
use super::usage::Usage;
use crate::config::input::{self, InputError};
use crate::status::{Failure, Fatal, Status};

/// Larger than any configuration, and small enough to read whole.
const MAX_LEN: u64 = 1 << 20;

/// Why a config file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error(transparent)]
    Input(#[from] InputError),
    #[error("config {}: {error}", path.display())]
    Read { path: PathBuf, error: std::io::Error },
    #[error("config {}: larger than {MAX_LEN} bytes", path.display())]
    TooLong { path: PathBuf },
    #[error("config {}: {what}", path.display())]
    Toml { path: PathBuf, what: String },
    #[error("config {}: {key}", path.display())]
    Key { path: PathBuf, key: KeyTrouble },
    #[error("config {}: {usage}", path.display())]
    Value { path: PathBuf, usage: Usage },
}

/// What is wrong with a key that stands for a flag.
#[derive(Debug, thiserror::Error)]
pub enum KeyTrouble {
    #[error("{key}: no such key; {hint}")]
    Unknown { key: String, hint: String },
    #[error("{key}: a string, number, boolean, or a list of such is needed")]
    Shape { key: String },
}

impl Fatal for FileError {
    fn status(&self) -> Status {
        Status::Image
    }
}

/// A config file, as the flags that it stands for.
pub struct File {
    path: PathBuf,
    keys: Vec<String>,
    args: Vec<OsString>,
}

/// Reads `path`; `matches` are the flags that win.
pub fn read(path: &Path, command: &Command, matches: &ArgMatches) -> Result<File, FileError> {
    let table = table(path)?;
    let mut file = File { path: path.to_owned(), keys: Vec::new(), args: Vec::new() };
    for (key, value) in &table {
        let flags =
            flags(key, value, command).map_err(|key| FileError::Key { path: path.to_owned(), key })?;
        if !run::given(matches, key) {
            file.args.extend(flags.into_iter().map(Into::into));
            file.keys.push(format!("--{key}"));
        }
    }
    Ok(file)
}

/// The flags that a key of `command` stands for: one, or, of a list, one for each where it may be repeated.
pub fn flags(key: &str, value: &Value, command: &Command) -> Result<Vec<String>, KeyTrouble> {
    let Some(arg) = keys(command).find(|arg| arg.get_long() == Some(key)) else {
        let known: Vec<&str> = keys(command).filter_map(Arg::get_long).collect();
        let hint = match nearest(key, known.iter().copied()) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("valid are {}", known.join(", ")),
        };
        return Err(KeyTrouble::Unknown { key: key.to_owned(), hint });
    };
    let mut texts = texts(value).ok_or_else(|| KeyTrouble::Shape { key: key.to_owned() })?;
    if !matches!(arg.get_action(), ArgAction::Append) {
        texts = vec![texts.join(",")];
    }
    Ok(texts.iter().map(|text| format!("--{key}={text}")).collect())
}

impl File {
    /// `--key=value` for every key whose flag is not given.
    pub fn args(&self) -> &[OsString] {
        &self.args
    }

    /// The failure by a value that stands in this file, or else in a flag.
    pub fn blame(&self, mut usage: Usage) -> Failure {
        if !self.keys.contains(&usage.object) {
            return usage.into();
        }
        usage.object = usage.object.trim_start_matches('-').to_owned();
        FileError::Value { path: self.path.clone(), usage }.into()
    }
}

fn table(path: &Path) -> Result<Table, FileError> {
    let mut text = String::new();
    let read = input::open("config", path)?.take(MAX_LEN + 1).read_to_string(&mut text);
    read.map_err(|error| FileError::Read { path: path.to_owned(), error })?;
    if text.len() as u64 > MAX_LEN {
        return Err(FileError::TooLong { path: path.to_owned() });
    }
    text.parse::<Table>()
        .map_err(|error| FileError::Toml { path: path.to_owned(), what: input::toml_trouble(&text, &error) })
}

/// The flags that are keys too.
fn keys(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| arg.get_action().takes_values() && arg.get_id() != run::CONFIG)
}

/// A value as it is written after a flag; a list is several.
fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Array(values) => values.iter().map(text).collect(),
        value => Some(vec![text(value)?]),
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(on) => Some(if *on { "on" } else { "off" }.into()),
        // `pv = { ipi = true, eoi = false }` is `ipi=on,eoi=off`.
        Value::Table(table) => {
            let pairs = table.iter().map(|(key, value)| match value {
                Value::Table(_) | Value::Array(_) => None,
                value => Some(format!("{key}={}", text(value)?)),
            });
            Some(pairs.collect::<Option<Vec<_>>>()?.join(","))
        }
        Value::Array(_) | Value::Datetime(_) => None,
    }
}
