//! `vmm compare`: the flags of a machine, and which of them are varied.

use std::path::PathBuf;

use abi::workload::Spec;
use clap::{ArgMatches, Args as _, Command};

use super::run;
use super::usage::Usage;
use crate::compare::bundle::Setting;
use crate::compare::metric::Pattern;
use crate::compare::plan::{self, DEFAULT, MOST_RUNS, Vary};
use crate::compare::session::Plan;
use crate::compare::{Job, Output, Source};

/// Run the machine under each of several settings, interleaved, and lay the reports side by side: which
/// was faster, by how much, and which counts moved with it. The table goes to stdout
#[derive(Debug, clap::Args)]
// Its name would be that of the machine's flags.
#[group(skip)]
#[command(
    override_usage = "vmm compare [OPTIONS OF A MACHINE] --vary <KNOB=A,B> …\n       vmm compare --from <BUNDLE> …"
)]
pub struct Args {
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    machine: run::Args,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Comparison")]
struct How {
    /// KNOB=A,B[,…]: any flag of the machine and its values; A;B where a value has commas; the value
    /// default leaves the flag away; may be repeated. All others are compared with the first values
    #[arg(long, value_name = "KNOB=A,B")]
    vary: Vec<Vary>,
    /// Change one knob at a time against the first values, instead of all combinations
    #[arg(long)]
    one_at_a_time: bool,
    /// The workload on this host's own kernel, too, without a machine
    #[arg(long)]
    native: bool,
    /// Runs of each setting, in turns A B, B A, … [default: 6]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000), default_value = "6", hide_default_value = true)]
    repeat: u32,
    /// Runs of each setting before those that count [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1000), default_value = "1", hide_default_value = true)]
    warm_up: u32,
    /// NAME=REGEX: a number on the guest's console, the first group or the whole match; the last match
    /// counts; may be repeated
    #[arg(long, value_name = "NAME=REGEX")]
    metric: Vec<Pattern>,
    /// json:FILE (vmm.compare/1), csv:FILE or html:FILE, beside the table; may be repeated
    #[arg(long, value_name = "FORMAT:FILE")]
    out: Vec<Output>,
    /// Bundles that were written by --out json:FILE: shown again, and joined. Times of different
    /// classes of hosts are not compared
    #[arg(long, value_name = "BUNDLE", num_args = 1..)]
    from: Vec<PathBuf>,
    /// However long it takes; otherwise more than an hour is refused after the first run
    #[arg(long)]
    yes: bool,
}

impl Args {
    /// What is to be run, or read. `check` says what is wrong with a flag by itself.
    pub fn resolve(
        self,
        matches: &ArgMatches,
        check: impl Fn(&str) -> Result<(), Usage>,
    ) -> Result<Job, Usage> {
        let How { vary, one_at_a_time, native, repeat, warm_up, metric, out, from, yes } = self.how;
        let base = base(matches)?;
        let refuse = |flag: &str, value: Option<String>, why: String| Usage {
            object: format!("--{flag}"),
            value,
            why,
        };
        if !from.is_empty() {
            let stray = base.first().cloned().or_else(|| Some(format!("--vary={}", vary.first()?.knob)));
            return match stray {
                Some(stray) => Err(refuse(
                    "from",
                    None,
                    format!("shows runs that were made before: {stray} comes too late"),
                )),
                None => Ok(Job { source: Source::Bundles(from), outputs: out }),
            };
        }
        let known = machine();
        for (at, one) in vary.iter().enumerate() {
            one.check(known.get_arguments())
                .map_err(|error| refuse("vary", Some(one.knob.clone()), error.to_string()))?;
            if vary[..at].iter().any(|other| other.knob == one.knob) {
                return Err(refuse("vary", Some(one.knob.clone()), "is given twice".into()));
            }
        }
        let cells = plan::cells(&vary, one_at_a_time).unwrap_or(u64::MAX).saturating_add(native.into());
        let runs = cells.saturating_mul(u64::from(warm_up + repeat));
        if cells < 2 {
            return Err(refuse(
                "vary",
                None,
                "is needed, with two values or more, or else --native: nothing is compared".into(),
            ));
        }
        if runs > MOST_RUNS {
            // A machine that does nothing takes some hundredths of a second.
            let hours = runs / (3600 * 20);
            let why = format!(
                "{cells} settings make {runs} runs, {hours} hours and more; at most {MOST_RUNS} runs"
            );
            return Err(refuse("vary", None, why));
        }
        let mut settings = plan::settings(&base, &vary, one_at_a_time);
        for one in &vary {
            for value in one.values.iter().filter(|value| *value != DEFAULT) {
                let flag = format!("--{}={value}", one.knob);
                check(&flag)
                    .map_err(|usage| refuse("vary", Some(format!("{}={value}", one.knob)), usage.why))?;
            }
        }
        if native {
            settings.push(on_host(matches, &refuse)?);
        }
        Ok(Job {
            source: Source::Runs(Plan { settings, patterns: metric, warm_ups: warm_up, rounds: repeat, yes }),
            outputs: out,
        })
    }
}

/// The flags of a machine, for their names.
fn machine() -> Command {
    run::Args::augment_args(Command::new("vmm"))
}

/// What was given of a machine's flags, as a command line.
fn base(matches: &ArgMatches) -> Result<Vec<String>, Usage> {
    let mut base = Vec::new();
    for arg in machine().get_arguments() {
        let Some(flag) = arg.get_long().filter(|flag| run::given(matches, flag)) else { continue };
        if flag == "report" {
            let why = "is compare's own to say: --out json:FILE, csv:FILE or html:FILE".into();
            return Err(Usage { object: "--report".into(), value: None, why });
        }
        let values = matches.get_raw(arg.get_id().as_str()).into_iter().flatten();
        base.extend(values.map(|value| format!("--{flag}={}", value.to_string_lossy())));
    }
    Ok(base)
}

/// The one workload, without a machine.
fn on_host(
    matches: &ArgMatches,
    refuse: &impl Fn(&str, Option<String>, String) -> Usage,
) -> Result<Setting, Usage> {
    let workloads: Vec<String> =
        matches.get_many::<String>("workload").into_iter().flatten().cloned().collect();
    let [workload] = workloads.as_slice() else {
        return Err(refuse("native", None, "goes with one --workload, which is not varied".into()));
    };
    if !Spec::parse(workload).is_ok_and(|spec| spec.workload.places.native) {
        return Err(refuse("native", None, format!("{workload} needs a machine")));
    }
    Ok(Setting { name: "native".into(), args: vec!["workload".into(), workload.clone()], native: true })
}
