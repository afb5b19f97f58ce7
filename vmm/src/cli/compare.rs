//! `vmm compare`: the flags of a machine, and which of them are varied.

use std::path::PathBuf;

use abi::workload::Spec;
use clap::{ArgMatches, Args as _, Command};

use super::usage::Usage;
use super::{run, topology};
use crate::compare::bundle::{Setting, Skipped};
use crate::compare::metric::Pattern;
use crate::compare::plan::{self, DEFAULT, MOST_RUNS, Vary};
use crate::compare::session::Plan;
use crate::compare::{Job, Output, Source};
use crate::config::word::UnknownWord;
use crate::status::Failure;
use crate::topology::file::{self as written, Topology};
use crate::topology::{Error, host};

/// Run the machine under each of several settings, interleaved, and lay the reports side by side: which
/// was faster, by how much, and which counts moved with it. The table goes to stdout
#[derive(Debug, clap::Args)]
// Its name would be that of the machine's flags.
#[group(skip)]
#[command(
    override_usage = "vmm compare [OPTIONS OF A MACHINE] --vary <KNOB=A,B> …\n       vmm compare --topology <NAME> [--set <KEY=VALUE>] [--vary <KEY=A,B>] …\n       vmm compare --from <BUNDLE> …"
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
    /// Several machines instead of one, as vmm topology runs them: every path that this host can do, or
    /// those of --vary path=A,B; its values are knobs, too
    #[arg(long, value_name = "NAME")]
    topology: Option<String>,
    /// KEY=VALUE: another value of the topology, for all; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = topology::pair, requires = "topology")]
    set: Vec<(String, String)>,
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
    /// However long it takes; otherwise more than an hour is refused, before the first run where the
    /// workloads say it (seconds=), or after it
    #[arg(long)]
    yes: bool,
}

impl Args {
    /// What is to be run, or read. `check` says what is wrong with a flag by itself.
    pub fn resolve(
        self,
        matches: &ArgMatches,
        check: impl Fn(&str) -> Result<(), Usage>,
    ) -> Result<Job, Failure> {
        let How { mut vary, topology, set, one_at_a_time, native, repeat, warm_up, metric, out, from, yes } =
            self.how;
        let base = base(matches)?;
        let refuse = |flag: &str, value: Option<String>, why: String| Usage {
            object: format!("--{flag}"),
            value,
            why,
        };
        let stray = || base.first().cloned().or_else(|| native.then(|| "--native".into()));
        if !from.is_empty() {
            let varied = || Some(format!("--vary={}", vary.first()?.knob));
            let named = || topology.as_ref().map(|_| "--topology".into());
            return match stray().or_else(varied).or_else(named) {
                Some(stray) => Err(refuse(
                    "from",
                    None,
                    format!("shows runs that were made before: {stray} comes too late"),
                )
                .into()),
                None => Ok(Job { source: Source::Bundles(from), outputs: out }),
            };
        }
        if let Some(one) = vary
            .iter()
            .enumerate()
            .find_map(|(at, one)| vary[..at].iter().any(|other| other.knob == one.knob).then_some(one))
        {
            return Err(refuse("vary", Some(one.knob.clone()), "is given twice".into()).into());
        }
        let several = topology.as_deref().map(Several::read).transpose()?;
        let known = machine();
        match &several {
            Some(several) => {
                if let Some(stray) = stray() {
                    let why = format!("has machines of its own: {stray} is for one machine");
                    return Err(refuse("topology", None, why).into());
                }
                several.all_paths(&mut vary);
                several.check(&vary)?;
            }
            None => {
                for one in &vary {
                    one.check(known.get_arguments())
                        .map_err(|error| refuse("vary", Some(one.knob.clone()), error.to_string()))?;
                }
            }
        }
        let cells = plan::cells(&vary, one_at_a_time).unwrap_or(u64::MAX).saturating_add(native.into());
        let runs = cells.saturating_mul(u64::from(warm_up + repeat));
        if cells < 2 {
            return Err(refuse(
                "vary",
                None,
                "is needed, with two values or more, or else --native: nothing is compared".into(),
            )
            .into());
        }
        if runs > MOST_RUNS {
            // A machine that does nothing takes some hundredths of a second.
            let hours = runs / (3600 * 20);
            let why = format!(
                "{cells} settings make {runs} runs, {hours} hours and more; at most {MOST_RUNS} runs"
            );
            return Err(refuse("vary", None, why).into());
        }
        let mut settings = plan::settings(&base, &vary, one_at_a_time);
        let mut skipped = Vec::new();
        if let Some(several) = &several {
            (settings, skipped) = several.settings(settings, &set)?;
        }
        for one in vary.iter().filter(|_| several.is_none()) {
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
            source: Source::Runs(Plan {
                settings,
                skipped,
                patterns: metric,
                warm_ups: warm_up,
                rounds: repeat,
                yes,
                flags: ("--vary", "--one-at-a-time"),
            }),
            outputs: out,
        })
    }
}

/// The machines of a topology, of which paths and values can be varied.
struct Several {
    /// As typed.
    name: String,
    topology: Topology,
}

/// The knob that chooses how they are joined.
const PATH: &str = "path";

impl Several {
    fn read(name: &str) -> Result<Several, Failure> {
        Ok(Several { name: name.to_owned(), topology: written::one_of(name)? })
    }

    /// Without a word on it, all paths are compared.
    fn all_paths(&self, vary: &mut Vec<Vary>) {
        if !vary.iter().any(|one| one.knob == PATH) {
            let values = self.topology.paths.iter().map(|path| path.name.clone()).collect();
            vary.push(Vary { knob: PATH.into(), values });
        }
    }

    fn check(&self, vary: &[Vary]) -> Result<(), Failure> {
        for one in vary {
            let known = self.topology.values.keys().map(String::as_str).chain([PATH]);
            if one.knob == PATH {
                one.values.iter().try_for_each(|name| topology::path(&self.topology, name).map(drop))?;
            } else if !known.clone().any(|known| known == one.knob) {
                let unknown = UnknownWord::new(&one.knob, known);
                return Err(Usage::flag("vary", Some(one.knob.clone()), unknown).into());
            }
        }
        Ok(())
    }

    /// Each as a command line of `vmm topology`, which is checked, and those that this host can't do.
    fn settings(
        &self,
        settings: Vec<Setting>,
        set: &[(String, String)],
    ) -> Result<(Vec<Setting>, Vec<Skipped>), Failure> {
        let (mut able, mut skipped, mut first) = (Vec::new(), Vec::new(), None);
        for setting in settings {
            let mut set = set.to_vec();
            let mut chosen = &self.topology.paths[0];
            for (key, value) in setting.args.iter().filter_map(|arg| arg.strip_prefix("--")?.split_once('='))
            {
                match key {
                    PATH => chosen = topology::path(&self.topology, value)?,
                    key => set.push((key.to_owned(), value.to_owned())),
                }
            }
            let scene = topology::scene(&self.topology, chosen, &set)?;
            let lack = host::lacks(&scene);
            topology::plan(scene, Vec::new(), None)?;
            if let Some(lack) = lack {
                skipped.push(Skipped { name: setting.name, why: lack.why.clone() });
                first.get_or_insert(Error::Lacks { path: chosen.name.clone(), lack });
                continue;
            }
            let set = set.iter().map(|(key, value)| format!("--set={key}={value}"));
            let words = ["topology".into(), self.name.clone(), format!("--path={}", chosen.name)];
            able.push(Setting { args: words.into_iter().chain(set).collect(), ..setting });
        }
        match first.filter(|_| able.is_empty()) {
            Some(error) => Err(error.into()),
            None => Ok((able, skipped)),
        }
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
    Ok(Setting {
        name: "native".into(),
        args: vec!["workload".into(), workload.clone()],
        native: true,
        within: Vec::new(),
        figures: Vec::new(),
    })
}
