//! `vmm repro`: a published experiment, run again.

use std::path::PathBuf;

use crate::compare::Output;
use crate::repro::{self, Job, Which};

/// Run a published experiment again, and say row by row whether its direction holds here; without a NAME,
/// list them
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A name from the list, or an experiment of one's own in a file NAME.toml
    #[arg(value_name = "NAME", conflicts_with = "all")]
    name: Option<String>,
    /// Every experiment
    #[arg(long)]
    all: bool,
    /// At the published size, which may take hours and gigabytes; otherwise at one that fits everywhere
    #[arg(long)]
    full: bool,
    /// A Linux kernel, for what runs in a Linux guest
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// One that is PREEMPT_RT, for what is said of such guests: resources/lab/kernels rt fetches Debian's
    #[arg(long, value_name = "FILE")]
    rt_kernel: Option<PathBuf>,
    /// Known tools, too (fio, iperf3, hackbench, …), where an experiment has one: in the same places, in turn
    /// with our workload, in one table. FOLDER is what resources/image/build makes [default: .lab/image]
    #[arg(long, value_name = "FOLDER", num_args = 0..=1, require_equals = true, default_missing_value = repro::TOOLS)]
    tools: Option<PathBuf>,
    /// Only settings whose names have TEXT in them; may be repeated
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Runs of each setting before those that count [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1000), default_value = "1", hide_default_value = true)]
    warm_up: u32,
    /// Runs of each setting, in turns A B, B A, … [default: 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000), default_value = "5", hide_default_value = true)]
    repeat: u32,
    /// json:FILE (vmm.repro/1) or html:FILE, beside the text on stdout; may be repeated
    #[arg(long, value_name = "FORMAT:FILE")]
    out: Vec<Output>,
    /// However long it takes; otherwise more than an hour for one experiment is refused
    #[arg(long)]
    yes: bool,
}

impl Args {
    pub fn resolve(self) -> Job {
        let Args { name, all, full, kernel, rt_kernel, tools, only, warm_up, repeat, out, yes } = self;
        let which = match (name, all) {
            (Some(name), _) => Which::One(name),
            (None, true) => Which::All,
            (None, false) => Which::List,
        };
        Job {
            which,
            full,
            kernel,
            rt_kernel,
            tools,
            only,
            warm_ups: warm_up,
            rounds: repeat,
            yes,
            outputs: out,
        }
    }
}
