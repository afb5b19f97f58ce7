//! What is refused, in one line: the object, what is wrong with it, and what would do.

use std::error::Error;
use std::ffi::OsString;
use std::fmt;

use abi::workload::nearest;
use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::status::{Fatal, Status};

/// A flag, key or word that is refused.
#[derive(Debug)]
pub struct Usage {
    /// `--vcpus`, or a word that is no flag.
    pub object: String,
    /// What was said of it.
    pub value: Option<String>,
    /// What is wrong with it, and what would do.
    pub why: String,
}

impl Usage {
    /// A flag whose value is refused beside the others.
    pub fn flag(flag: &str, value: Option<String>, why: impl Error) -> Usage {
        Usage { object: format!("--{flag}"), value, why: why.to_string() }
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.object)?;
        if let Some(value) = &self.value {
            write!(f, " {value}")?;
        }
        write!(f, ": {}", self.why)
    }
}

impl Error for Usage {}

impl Fatal for Usage {
    fn status(&self) -> Status {
        Status::Usage
    }
}

/// What clap says on many lines.
pub fn explain(error: &clap::Error, command: &Command, args: &[OsString]) -> Usage {
    let subcommand = args.get(1).and_then(|word| command.find_subcommand(word.to_str()?));
    let command = subcommand.unwrap_or(command);
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        Some(ContextValue::Strings(texts)) => texts.first().map(String::as_str),
        _ => None,
    };
    // `--memory <SIZE>`: the flag alone is enough.
    let flag =
        context(ContextKind::InvalidArg).map(|text| text.split([' ', '=', '[']).next().unwrap_or(text));
    let value = context(ContextKind::InvalidValue).filter(|value| !value.is_empty());
    let usage = |object: Option<&str>, value: Option<&str>, why: String| Usage {
        object: object.unwrap_or("command line").to_owned(),
        value: value.map(str::to_owned),
        why,
    };
    match error.kind() {
        ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand => {
            let word = context(ContextKind::InvalidSubcommand).or(context(ContextKind::InvalidArg));
            usage(word, None, unknown(word.unwrap_or_default(), command, args))
        }
        ErrorKind::ValueValidation => {
            usage(flag, value, error.source().map_or("not valid".into(), ToString::to_string))
        }
        ErrorKind::ArgumentConflict => match context(ContextKind::PriorArg) {
            Some(prior) if context(ContextKind::InvalidArg) != Some(prior) => {
                usage(flag, None, format!("cannot be used with {prior}"))
            }
            _ => usage(flag, None, "is given twice".into()),
        },
        ErrorKind::InvalidValue | ErrorKind::NoEquals => usage(flag, value, "needs a value".into()),
        ErrorKind::TooManyValues => usage(flag, value, "takes no value".into()),
        ErrorKind::MissingRequiredArgument => usage(flag, None, "is needed; vmm --help says what for".into()),
        ErrorKind::InvalidUtf8 => usage(flag, None, "not valid UTF-8".into()),
        _ => usage(flag, value, error.kind().as_str().unwrap_or("not understood").to_owned()),
    }
}

/// Why a word is no flag and no command.
fn unknown(word: &str, command: &Command, args: &[OsString]) -> String {
    let mut flags = command.get_arguments().filter_map(|arg| arg.get_long());
    if let Some(rest) = word.strip_prefix('-') {
        return match nearest(rest.trim_start_matches('-'), flags) {
            Some(near) => format!("no such flag; did you mean --{near}?"),
            None => "no such flag; vmm --help lists all".into(),
        };
    }
    // `--thp on`: a value that may be left out is tied to its flag by an equals sign.
    let before = args.iter().position(|arg| arg == word).and_then(|at| args.get(at.checked_sub(1)?));
    let flag = before.and_then(|flag| flag.to_str()?.strip_prefix("--"));
    if let Some(flag) = flag.filter(|flag| flags.any(|known| known == *flag)) {
        return format!("no such command; did you mean --{flag}={word}?");
    }
    if command.get_arguments().any(|arg| arg.get_long() == Some(word)) {
        return format!("no such command; did you mean --{word}?");
    }
    match nearest(word, command.get_subcommands().map(Command::get_name)) {
        Some(near) => format!("no such command; did you mean {near}?"),
        None => "no such command; vmm --help lists all".into(),
    }
}
