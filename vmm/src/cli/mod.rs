//! The command line as typed, up to a value that means something.
//!
//! - [`run`]       `vmm [OPTIONS]`: one machine; a new flag is a field there, and, if it is a knob, a
//!   name in [`crate::config::knobs`]
//! - [`compare`]   `vmm compare`
//! - [`repro`]     `vmm repro`
//! - [`workload`]  `vmm workload NAME`
//! - [`doctor`]    `vmm doctor`
//! - [`switch`]    `vmm switch`
//! - [`topology`]  `vmm topology NAME`
//! - [`top`]       `vmm top PID`
//! - [`file`]      `--config`: the same keys as TOML
//! - [`help`]      the help, with each knob's evidence
//! - [`usage`]     what is refused, in one line

mod compare;
mod doctor;
mod file;
mod help;
mod repro;
mod run;
mod switch;
mod top;
mod topology;
mod usage;
mod workload;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::compare as comparison;
use crate::compare::Source;
use crate::config::Config;
use crate::doctor as examination;
use crate::live::{self, top::Machine};
use crate::machine::early::Early;
use crate::report::Birth;
use crate::repro as reproduction;
use crate::run::session;
use crate::status::{Failure, Status, say};
use crate::workload::native;

use usage::Usage;

/// What was asked of the program.
#[derive(Debug)]
pub enum Command {
    /// Run one machine.
    Run(Box<Config>),
    /// Compare settings of a machine.
    Compare(comparison::Job),
    /// Run published experiments again.
    Repro(reproduction::Job),
    /// Run a workload on this kernel: a text that [`abi::workload::Spec`] accepts.
    Workload(String),
    /// Say what this host can do; as JSON.
    Doctor(bool),
    /// Switch frames between machines.
    Switch(crate::switch::Plan),
    /// Run several machines together.
    Topology(Box<crate::topology::Plan>),
    /// Look at a machine that runs, so many times.
    Top(Machine, Option<u32>),
    /// Print this on stdout: help or version.
    Print(String),
}

/// A virtual machine monitor in which every tuning choice shows up in the numbers.
#[derive(Debug, Parser)]
#[command(name = "vmm", version)]
#[command(override_usage = "vmm [OPTIONS]\n       vmm <COMMAND>")]
struct Cli {
    #[command(flatten)]
    run: run::Args,
    #[command(subcommand)]
    subcommand: Option<Sub>,
}

#[derive(Debug, Subcommand)]
enum Sub {
    Compare(Box<compare::Args>),
    Repro(repro::Args),
    Workload(workload::Args),
    Doctor(doctor::Args),
    Switch(switch::Args),
    Topology(topology::Args),
    Top(top::Args),
}

/// Does what the command line asks, and says in one line on stderr why not.
pub fn main(args: impl IntoIterator<Item = OsString>, birth: Birth) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let early = is_plain(&args).then(Early::begin);
    let done = parse(args).and_then(|command| match command {
        Command::Run(config) => session::run(&config, birth, early),
        Command::Compare(job) => comparison::run(&job),
        Command::Repro(job) => reproduction::run(&job),
        Command::Workload(text) => {
            let status = native::run(&text, &mut std::io::stdout());
            status.map(Status::Guest).map_err(|error| Failure::new(Status::Usage, &error.to_string()))
        }
        Command::Doctor(json) => {
            let (text, status) = examination::run(json);
            print(&text);
            Ok(status)
        }
        Command::Switch(plan) => crate::switch::run(&plan),
        Command::Topology(plan) => crate::topology::run(&plan),
        Command::Top(machine, count) => Ok(live::top::run(&machine, count).map(|()| Status::Guest(0))?),
        Command::Print(text) => {
            print(&text);
            Ok(Status::Guest(0))
        }
    });
    match done {
        Ok(status) => status.into(),
        Err(failure) => {
            say(&failure);
            failure.status.into()
        }
    }
}

fn print(text: &str) {
    // A reader that has closed the pipe has read enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Reads a command line, the program's name first. Prints nothing, and opens nothing but the file of
/// `--config`.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, Failure> {
    let mut args: Vec<OsString> = args.into_iter().collect();
    if args.is_empty() {
        args.push("vmm".into());
    }
    if let Some(text) = help::topic(&args) {
        return Ok(Command::Print(text));
    }
    let (mut command, matches) = matches(&args);
    let mut matches = match matches {
        Ok(matches) => matches,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return Ok(Command::Print(help::text(Cli::command(), &args)));
        }
        Err(error) => return Err(usage::explain(&error, &command, &args).into()),
    };
    let file = match matches.get_one::<PathBuf>(run::CONFIG) {
        None => None,
        Some(path) => Some(file::read(path, &command, &matches)?),
    };
    if let Some(file) = &file {
        args.splice(1..1, file.args().iter().cloned());
        matches = command
            .try_get_matches_from_mut(&args)
            .map_err(|error| file.blame(usage::explain(&error, &command, &args)))?;
    }
    let asked = run::asked(&matches);
    let cli = Cli::from_arg_matches(&matches).map_err(|error| usage::explain(&error, &command, &args))?;
    match cli.subcommand {
        Some(Sub::Top(args)) => {
            run::none_given(&matches)?;
            let (machine, count) = args.resolve()?;
            Ok(Command::Top(machine, count))
        }
        Some(Sub::Topology(args)) => {
            run::none_given(&matches)?;
            Ok(match args.resolve()? {
                Some(plan) => Command::Topology(Box::new(plan)),
                None => Command::Print(crate::topology::list()?),
            })
        }
        Some(Sub::Workload(args)) => {
            run::none_given(&matches)?;
            Ok(Command::Workload(args.resolve()?))
        }
        Some(Sub::Doctor(args)) => {
            run::none_given(&matches)?;
            Ok(Command::Doctor(args.json))
        }
        Some(Sub::Compare(args)) => {
            run::none_given(&matches)?;
            let given = matches.subcommand_matches("compare").unwrap_or(&matches);
            let job = args.resolve(given, flag_alone)?;
            if let Source::Runs(plan) = &job.source
                && let Some(first) = plan.settings.iter().find(|setting| !setting.native)
            {
                // What is wrong with all of them is said once, before anything runs.
                parse(std::iter::once("vmm".into()).chain(first.args.iter().map(Into::into)))?;
            }
            Ok(Command::Compare(job))
        }
        Some(Sub::Repro(args)) => {
            run::none_given(&matches)?;
            Ok(Command::Repro(args.resolve()))
        }
        Some(Sub::Switch(args)) => {
            run::none_given(&matches)?;
            Ok(Command::Switch(args.resolve()?))
        }
        None => match (cli.run.resolve(asked), &file) {
            (Ok(config), _) => Ok(Command::Run(Box::new(config))),
            (Err(usage), Some(file)) => Err(file.blame(usage)),
            (Err(usage), None) => Err(usage.into()),
        },
    }
}

/// Whether `args` are those of a machine, as it seems: they name no subcommand, and ask for no help.
fn is_plain(args: &[OsString]) -> bool {
    const ANSWERED: [&str; 5] = ["help", "--help", "-h", "--version", "-V"];
    let other = |arg: &str| Sub::has_subcommand(arg) || ANSWERED.contains(&arg);
    !args.iter().skip(1).any(|arg| arg.to_str().is_some_and(other))
}

/// What clap makes of `args`, and the command by which. To build what the subcommands take costs more than all
/// else here: they are left out where none is named and nothing is wrong.
fn matches(args: &[OsString]) -> (clap::Command, Result<ArgMatches, clap::Error>) {
    if is_plain(args) {
        let mut command = run::Args::augment_args(clap::Command::new("vmm"));
        if let Ok(matches) = command.try_get_matches_from_mut(args) {
            return (command, Ok(matches));
        }
    }
    let mut command = Cli::command();
    let matches = command.try_get_matches_from_mut(args);
    (command, matches)
}

/// What is wrong with one flag of a machine by itself.
fn flag_alone(flag: &str) -> Result<(), Usage> {
    let mut command = Cli::command();
    let args = ["vmm".into(), OsString::from(flag)];
    let refused = command.try_get_matches_from_mut(&args).err();
    refused.map_or(Ok(()), |error| Err(usage::explain(&error, &command, &args)))
}
