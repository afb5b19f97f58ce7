//! The built-in kernel's figures, as ratios in one run: what a call, a hand-over, a request costs, by
//! whom it is paid, and how long a machine takes to be ready. `resources/bench/kernel` runs it.
//!
//! - [`bare`]     the least that is a machine: what `vmm` is measured against
//! - [`report`]   one run of `vmm`, by its report
//! - [`figures`]  each figure, what is aimed at, and whether it is reached

mod bare;
mod figures;
mod report;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

/// What to measure with.
struct Plan {
    vmm: PathBuf,
    /// A Linux kernel, for the same workloads in a Linux guest.
    linux: Option<PathBuf>,
    rounds: usize,
}

const USAGE: &str = "kernel --vmm FILE [--linux FILE] [--rounds N]";
/// The argument that makes this program the least that is a machine.
const BARE: &str = "bare";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1).peekable();
    let result = match args.peek().map(String::as_str) {
        Some(BARE) => bare::run(),
        _ => parse(args).map_err(io::Error::other).and_then(|plan| figures::all(&plan)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kernel: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Plan, String> {
    let mut plan = Plan { vmm: "vmm".into(), linux: None, rounds: 5 };
    while let Some(flag) = args.next() {
        let value = args.next().ok_or(USAGE)?;
        match flag.as_str() {
            "--vmm" => plan.vmm = value.into(),
            "--linux" => plan.linux = Some(value.into()),
            "--rounds" => plan.rounds = value.parse().map_err(|_| USAGE)?,
            _ => return Err(USAGE.into()),
        }
    }
    if plan.rounds == 0 { Err(USAGE.into()) } else { Ok(plan) }
}
